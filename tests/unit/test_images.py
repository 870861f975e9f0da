"""Pictures from bytes and from addresses, good and bad; servers are real ones on loopback."""

from __future__ import annotations

import base64
import gzip
import io
import logging
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFile

from sam3_backend.errors import (
    ImageError,
    ImageForbidden,
    ImageTooLarge,
    ImageUndecodable,
    ImageUnreachable,
    InvalidRequest,
)
from sam3_backend.images import PictureLoader, PictureLocation, decode_picture, read_picture_file
from sam3_backend.images.addresses import may_reach
from sam3_backend.images.location import is_within, redact
from sam3_backend.settings import Settings
from tests.local_http import LocalServer, content, dripping, hang_up, in_turn, never, redirect, serve, status

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1_000_000
WIDTH_PX, HEIGHT_PX = 60, 40

# Where the top left corner of the stored pixels is seen, for EXIF orientations 1 to 8.
CORNER_BY_ORIENTATION = ["top left", "top right", "bottom right", "bottom left"] * 2

MODES_BY_KIND = {
    "JPEG": ["1", "L", "RGB", "CMYK", "YCbCr"],
    "PNG": ["1", "L", "P", "RGB"],
    "TIFF": ["1", "L", "P", "RGB", "CMYK", "YCbCr"],
    "BMP": ["1", "L", "P", "RGB"],
    "GIF": ["1", "L", "P", "RGB"],
    "WEBP": ["L", "RGB"],
    "AVIF": ["L", "RGB"],
    "JPEG2000": ["L", "RGB"],
    "PPM": ["1", "L", "RGB"],
}


def corner() -> np.ndarray:
    """A black picture with a white rectangle at the top left."""
    grey = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    grey[:10, :20] = 255
    return grey


def encoded(image: Image.Image | None = None, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(corner()).convert("RGB")).save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def white_corner(rgb: np.ndarray) -> str:
    bright = {
        "top left": rgb[2, 2],
        "top right": rgb[2, -3],
        "bottom left": rgb[-3, 2],
        "bottom right": rgb[-3, -3],
    }
    return " and ".join(name for name, pixel in bright.items() if pixel.min() > 200)


def huge_png_header(width: int = 60000, height: int = 60000) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


class TestBytes:
    def test_pixels_are_rgb_and_cannot_be_written(self) -> None:
        picture = decode_picture(encoded(), max_pixels=LIMIT)
        assert (picture.width_px, picture.height_px, picture.rgb.dtype) == (WIDTH_PX, HEIGHT_PX, np.uint8)
        np.testing.assert_array_equal(picture.rgb, np.dstack([corner()] * 3))
        with pytest.raises(ValueError, match="read-only"):
            picture.rgb[0, 0] = 1

    @pytest.mark.parametrize(("orientation", "where"), list(enumerate(CORNER_BY_ORIENTATION, 1)))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "AVIF", "TIFF"])
    def test_orientation_is_applied(self, kind: str, orientation: int, where: str) -> None:
        data = encoded(kind=kind, exif=oriented(orientation))
        file = read_picture_file(data, max_pixels=LIMIT)
        rgb = file.decode().rgb
        assert white_corner(rgb) == where
        assert rgb.shape[:2] == ((HEIGHT_PX, WIDTH_PX) if orientation < 5 else (WIDTH_PX, HEIGHT_PX))
        assert (file.height_px, file.width_px) == rgb.shape[:2]

    def test_webp_orientation_is_ignored_as_browsers_do(self) -> None:
        picture = decode_picture(encoded(kind="WEBP", exif=oriented(6)), max_pixels=LIMIT)
        assert (picture.width_px, picture.height_px) == (WIDTH_PX, HEIGHT_PX)

    def test_xmp_orientation_is_ignored_as_browsers_do(self) -> None:
        xmp = b'<x><rdf:Description tiff:Orientation="6"/></x>'
        picture = decode_picture(encoded(kind="JPEG", xmp=xmp), max_pixels=LIMIT)
        assert (picture.width_px, picture.height_px) == (WIDTH_PX, HEIGHT_PX)

    @pytest.mark.parametrize(
        "exif", [b"Exif\0\0rubbish", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"]
    )
    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_damaged_orientation_leaves_the_picture_as_it_is(self, exif: bytes) -> None:
        picture = decode_picture(encoded(kind="JPEG", exif=exif), max_pixels=LIMIT)
        assert white_corner(picture.rgb) == "top left"

    @pytest.mark.parametrize(
        ("kind", "mode"), [(kind, mode) for kind, modes in MODES_BY_KIND.items() for mode in modes]
    )
    def test_every_opaque_mode_looks_the_same(self, kind: str, mode: str) -> None:
        rgb = decode_picture(encoded(Image.fromarray(corner()).convert(mode), kind), max_pixels=LIMIT).rgb
        assert rgb.shape == (HEIGHT_PX, WIDTH_PX, 3)
        assert white_corner(rgb) == "top left"

    @pytest.mark.parametrize(("kind", "mode"), [("PNG", "LA"), ("PNG", "RGBA"), ("WEBP", "RGBA"), ("GIF", "RGBA")])
    def test_transparent_pixels_are_white(self, kind: str, mode: str) -> None:
        alpha = np.full((HEIGHT_PX, WIDTH_PX), 255, dtype=np.uint8)
        alpha[-10:, -10:] = 0
        image = Image.fromarray(np.dstack([corner()] * 3 + [alpha]))
        data = encoded(image.convert(mode), kind)
        assert white_corner(decode_picture(data, max_pixels=LIMIT).rgb) == "top left and bottom right"

    @pytest.mark.parametrize("bits", [10, 12, 16])
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_deep_greyscale_is_stretched_to_eight_bits(self, bits: int, kind: str) -> None:
        ramp = np.tile(np.linspace(0, 2**bits - 1, 256).astype(np.uint16), (4, 1))
        rgb = decode_picture(encoded(Image.fromarray(ramp), kind), max_pixels=LIMIT).rgb
        np.testing.assert_array_equal(rgb[..., 0], np.tile(np.arange(256), (4, 1)))

    def test_uniform_deep_greyscale_does_not_divide_by_zero(self) -> None:
        flat = Image.fromarray(np.full((4, 4), 1000, dtype=np.uint16))
        assert decode_picture(encoded(flat), max_pixels=LIMIT).rgb.min() == 255

    def test_first_frame_of_an_animation_counts(self) -> None:
        frames = [Image.fromarray(corner()), Image.fromarray(255 - corner())]
        data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert white_corner(decode_picture(data, max_pixels=LIMIT).rgb) == "top left"

    @pytest.mark.parametrize("data", [huge_png_header(), huge_png_header() + encoded()[33:]])
    def test_pixel_limit_holds_before_decoding(self, data: bytes) -> None:
        with pytest.raises(ImageTooLarge, match=r"60000 x 60000 pixels \(3600\.0 megapixels\).*IMAGE_MAX_PIXELS"):
            decode_picture(data, max_pixels=100_000_000)

    @pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "WEBP", "TIFF"])
    def test_pixel_limit_holds_for_every_format(self, kind: str) -> None:
        data = encoded(kind=kind)
        assert decode_picture(data, max_pixels=WIDTH_PX * HEIGHT_PX)
        with pytest.raises(ImageTooLarge):
            decode_picture(data, max_pixels=WIDTH_PX * HEIGHT_PX - 1)

    def test_pictures_beyond_pillows_own_limit_are_read_in_silence(self) -> None:
        before = Image.MAX_IMAGE_PIXELS
        file = read_picture_file(huge_png_header(20000, 20000) + encoded()[33:], max_pixels=10**9)
        assert (file.width_px, file.height_px) == (20000, 20000)
        assert before == Image.MAX_IMAGE_PIXELS
        assert not ImageFile.LOAD_TRUNCATED_IMAGES

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
    def test_cut_off_file_is_refused(self, kind: str) -> None:
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8))
        whole = encoded(noise, kind)
        with pytest.raises(ImageUndecodable, match="cut off or damaged"):
            decode_picture(whole[: len(whole) // 2], max_pixels=LIMIT)

    @pytest.mark.parametrize("length", [3, 4, 10, 20, 30])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
    def test_any_beginning_of_a_file_gives_one_clear_error(self, kind: str, length: int) -> None:
        with pytest.raises(ImageUndecodable):
            decode_picture(encoded(kind=kind)[:length], max_pixels=LIMIT)

    @pytest.mark.parametrize(
        ("data", "name"),
        [
            (b"", "an empty file"),
            (b"<!DOCTYPE html><title>Log in</title>", "an HTML page"),
            (b"\n <HTML>", "an HTML page"),
            (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
            (b'{"detail": "Not found"}', "a JSON document"),
            (b"%PDF-1.7", "a PDF document"),
            (b"\0\0\0\x18ftypheic\0\0", "a HEIC picture"),
            (b"\0\0\0\x18ftypmp42\0\0", "a video"),
            (b"no picture here", "text"),
            (b"\x01\x02\x03\x04" * 9, "36 bytes of an unknown format"),
            (b"%!PS-Adobe-3.0 EPSF-3.0", "text"),
        ],
    )
    def test_error_names_what_came_instead_of_a_picture(self, data: bytes, name: str) -> None:
        with pytest.raises(ImageUndecodable, match=name):
            decode_picture(data, max_pixels=LIMIT)

    def test_hash_is_that_of_the_bytes(self) -> None:
        one, again, other = (
            read_picture_file(data, max_pixels=LIMIT).content_hash
            for data in (encoded(), encoded(), encoded(compress_level=1))
        )
        assert one == again != other
        assert len(one) == 64
        assert read_picture_file(encoded(), max_pixels=LIMIT).decode().content_hash == one


@pytest.fixture
def host() -> Iterator[LocalServer]:
    with serve() as server:
        yield server


@pytest.fixture
def other() -> Iterator[LocalServer]:
    with serve() as server:
        yield server


@pytest.fixture
def loader() -> Iterator[PictureLoader]:
    """As it comes: nothing private but Label Studio."""
    loader = PictureLoader(timeout_s=2, download_timeout_s=5, max_bytes=100_000, max_pixels=LIMIT)
    yield loader
    loader.close()


@pytest.fixture
def open_loader() -> Iterator[PictureLoader]:
    """Allowed to fetch from private hosts."""
    loader = PictureLoader(
        timeout_s=2, download_timeout_s=5, max_bytes=100_000, max_pixels=LIMIT, allow_private_hosts=True
    )
    yield loader
    loader.close()


class Token:
    """An authorization that counts."""

    advice = "Set LABEL_STUDIO_API_KEY."

    def __init__(self, *values: str) -> None:
        self.values = list(values)

    def __call__(self) -> str:
        return self.values[0]

    def renew(self, refused: str) -> bool:
        if len(self.values) > 1 and self.values[0] == refused:
            self.values.pop(0)
            return True
        return False


def own(server: LocalServer, path: str, authorization: Any = None, base_path: str = "") -> PictureLocation:
    """A location at a server that plays Label Studio."""
    return PictureLocation(server.base + path, True, authorization or Token("Token t"), server.base + base_path)


class TestDownload:
    def test_picture_of_label_studio_comes_with_its_token(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/data/upload/1/a b.png".replace(" ", "%20")] = content(encoded())
        picture = loader.download(own(host, "/data/upload/1/a%20b.png?x=%2F")).file.decode()
        assert picture.width_px == WIDTH_PX
        assert host.seen[0].path == "/data/upload/1/a%20b.png?x=%2F"
        assert host.seen[0].headers["authorization"] == "Token t"

    def test_connection_is_used_again(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes |= {"/a.png": content(encoded()), "/r": redirect("/a.png")}
        for path in ("/a.png", "/r", "/missing", "/a.png"):
            if path == "/missing":
                with pytest.raises(ImageUnreachable):
                    loader.download(own(host, path))
            else:
                loader.download(own(host, path))
        assert len({request.connection for request in host.seen}) == 1

    def test_many_threads_share_one_loader(self, host: LocalServer, loader: PictureLoader) -> None:
        for number in range(24):
            host.routes[f"/{number}.png"] = content(encoded(Image.new("RGB", (number + 1, 1))))
        with ThreadPoolExecutor(8) as threads:
            pictures = list(threads.map(lambda n: loader.download(own(host, f"/{n}.png")).file.decode(), range(24)))
        assert [picture.width_px for picture in pictures] == list(range(1, 25))

    def test_compressed_transfer_is_undone(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = content(gzip.compress(encoded()), Content_Encoding="gzip")
        assert loader.download(own(host, "/a.png")).file.decode().width_px == WIDTH_PX

    def test_cookies_are_not_kept(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = content(encoded(), Set_Cookie="sessionid=1")
        loader.download(own(host, "/a.png"))
        loader.download(own(host, "/a.png"))
        assert "cookie" not in host.seen[1].headers

    def test_settings_give_the_limits(self, host: LocalServer) -> None:
        loader = PictureLoader.from_settings(Settings(image_max_bytes=1024))
        host.routes["/a.png"] = content(b"x" * 1025)
        with pytest.raises(ImageTooLarge):
            loader.download(own(host, "/a.png"))
        loader.close()


class TestSlowHosts:
    def test_silent_host_is_given_up(self, host: LocalServer) -> None:
        loader = PictureLoader(timeout_s=0.2)
        host.routes["/a.png"] = never(host)
        with pytest.raises(ImageUnreachable, match=r"nothing came from it for 0\.2 s \(IMAGE_TIMEOUT_S\)"):
            loader.download(own(host, "/a.png"))

    @pytest.mark.parametrize("first_bytes", [0, 60])
    def test_dripping_host_is_given_up_at_the_deadline(self, host: LocalServer, first_bytes: int) -> None:
        loader = PictureLoader(timeout_s=2, download_timeout_s=0.3)
        data = encoded()
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        host.routes["/a.png"] = dripping(host, whole, first_bytes=first_bytes)
        with pytest.raises(ImageUnreachable, match="IMAGE_DOWNLOAD_TIMEOUT_S"):
            loader.download(own(host, "/a.png"))

    def test_host_that_does_not_take_connections_is_named(self, loader: PictureLoader) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, but not listening
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.png"
            with pytest.raises(ImageUnreachable, match=r"127\.0\.0\.1 does not accept connections"):
                loader.download(PictureLocation(url, True, None, url))

    def test_unknown_name_is_named(self, loader: PictureLoader, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*args: object, **options: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(ImageUnreachable, match=r"no host named 'nowhere\.example'"):
            loader.download(PictureLocation("http://nowhere.example/a.png"))

    def test_silent_name_server_is_given_up(self, host: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: host.stopping.wait(20) and [])
        with pytest.raises(ImageUnreachable, match="too slow"):
            PictureLoader(timeout_s=0.1).download(PictureLocation("http://nowhere.example/a.png"))

    def test_broken_connection_gets_a_second_attempt(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = in_turn(hang_up, content(encoded()))
        assert loader.download(own(host, "/a.png")).file.decode().width_px == WIDTH_PX

    def test_second_attempt_is_the_last(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = hang_up
        with pytest.raises(ImageUnreachable, match="broke off the connection"):
            loader.download(own(host, "/a.png"))
        assert len(host.seen) == 2

    def test_body_shorter_than_announced_is_not_taken_for_a_picture(
        self, host: LocalServer, loader: PictureLoader
    ) -> None:
        data = encoded(kind="BMP")
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:-5]
        host.routes["/a.bmp"] = dripping(host, whole, first_bytes=len(whole))
        with pytest.raises(ImageUnreachable, match="before everything had arrived"):
            loader.download(own(host, "/a.bmp"))


class TestLimits:
    def test_announced_size_is_enough_to_refuse(self, host: LocalServer, loader: PictureLoader) -> None:
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n"
        host.routes["/a.png"] = dripping(host, whole, first_bytes=len(whole))
        with pytest.raises(ImageTooLarge, match=r"more than 100,000 bytes \(IMAGE_MAX_BYTES\)"):
            loader.download(own(host, "/a.png"))

    def test_size_that_was_not_announced_is_counted(self, host: LocalServer, loader: PictureLoader) -> None:
        whole = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_001
        host.routes["/a.png"] = dripping(host, whole, first_bytes=len(whole))
        with pytest.raises(ImageTooLarge):
            loader.download(own(host, "/a.png"))

    def test_compressed_size_does_not_fool_the_limit(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = content(gzip.compress(b"x" * 100_001), Content_Encoding="gzip")
        with pytest.raises(ImageTooLarge):
            loader.download(own(host, "/a.png"))

    def test_pixel_limit_holds_for_downloads(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = content(huge_png_header())
        with pytest.raises(ImageTooLarge, match="60000 x 60000"):
            loader.download(own(host, "/a.png"))


class TestAnswers:
    @pytest.mark.parametrize(
        ("code", "error", "words"),
        [
            (401, ImageForbidden, r"does not accept this server's token .*LABEL_STUDIO_API_KEY"),
            (403, ImageForbidden, "token of a user who is in the project"),
            (404, ImageUnreachable, r"Is the storage .* still connected"),
            (500, ImageUnreachable, "answered HTTP 500"),
            (204, ImageUnreachable, "answered HTTP 204"),
        ],
    )
    def test_label_studios_refusal_says_what_to_do(
        self, host: LocalServer, loader: PictureLoader, code: int, error: type[ImageError], words: str
    ) -> None:
        host.routes["/a.png"] = status(code)
        with pytest.raises(error, match=words):
            loader.download(own(host, "/a.png"))

    @pytest.mark.parametrize(
        ("code", "error"), [(401, ImageForbidden), (404, ImageUnreachable), (503, ImageUnreachable)]
    )
    def test_other_hosts_refusal_names_the_status(
        self, host: LocalServer, open_loader: PictureLoader, code: int, error: type[ImageError]
    ) -> None:
        host.routes["/a.png"] = status(code)
        with pytest.raises(error, match=f"HTTP {code}"):
            open_loader.download(PictureLocation(f"{host.base}/a.png"))

    def test_login_page_is_recognised(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = redirect("/user/login/?next=/a.png", 302)
        host.routes["/user/login/"] = content(b"<!DOCTYPE html><title>Log in", "text/html")
        with pytest.raises(ImageUndecodable, match=r"/a\.png: Instead of a picture there came an HTML page \(a login"):
            loader.download(own(host, "/a.png"))

    def test_refused_token_is_renewed_once(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = in_turn(status(401), content(encoded()))
        assert (
            loader.download(own(host, "/a.png", Token("Bearer old", "Bearer new"))).file.decode().width_px == WIDTH_PX
        )
        assert [request.headers["authorization"] for request in host.seen] == ["Bearer old", "Bearer new"]

    def test_token_refused_twice_is_refused(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = status(401)
        with pytest.raises(ImageForbidden):
            loader.download(own(host, "/a.png", Token("Bearer old", "Bearer new", "Bearer newest")))
        assert len(host.seen) == 2


class TestRedirects:
    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_token_stays_at_label_studio(
        self, host: LocalServer, other: LocalServer, open_loader: PictureLoader, code: int
    ) -> None:
        host.routes["/tasks/1/presign/"] = redirect(f"{other.base}/bucket/a.png?signature=s", code)
        other.routes["/bucket/a.png"] = content(encoded())
        assert open_loader.download(own(host, "/tasks/1/presign/?fileuri=x")).file.decode().width_px == WIDTH_PX
        assert "authorization" in host.seen[0].headers
        assert "authorization" not in other.seen[0].headers
        assert other.seen[0].path == "/bucket/a.png?signature=s"

    def test_token_follows_within_label_studio(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes |= {"/a.png": redirect("data/b.png"), "/data/b.png": content(encoded())}
        loader.download(own(host, "/a.png"))
        assert [request.headers["authorization"] for request in host.seen] == ["Token t", "Token t"]

    def test_token_does_not_leave_label_studios_path(self, host: LocalServer, open_loader: PictureLoader) -> None:
        host.routes |= {"/ls/a.png": redirect("/wiki/a.png"), "/wiki/a.png": content(encoded())}
        open_loader.download(own(host, "/ls/a.png", base_path="/ls"))
        assert "authorization" not in host.seen[1].headers

    def test_trust_does_not_come_back(self, host: LocalServer, other: LocalServer, open_loader: PictureLoader) -> None:
        host.routes |= {"/a.png": redirect(f"{other.base}/back"), "/b.png": content(encoded())}
        other.routes["/back"] = redirect(f"{host.base}/b.png")
        open_loader.download(own(host, "/a.png"))
        assert "authorization" not in host.seen[1].headers

    def test_redirect_to_a_private_address_is_refused(
        self, host: LocalServer, other: LocalServer, loader: PictureLoader
    ) -> None:
        host.routes["/a.png"] = redirect(f"{other.base}/secret.png")
        other.routes["/secret.png"] = content(encoded())
        with pytest.raises(ImageForbidden, match="IMAGE_ALLOW_PRIVATE_HOSTS"):
            loader.download(own(host, "/a.png"))
        assert other.seen == []

    @pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "data:image/png;base64,AAAA"])
    def test_redirect_leads_to_http_alone(self, host: LocalServer, loader: PictureLoader, target: str) -> None:
        host.routes["/a.png"] = redirect(target)
        with pytest.raises(ImageForbidden):
            loader.download(own(host, "/a.png"))

    def test_redirects_end(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = redirect("/a.png")
        with pytest.raises(ImageUnreachable, match="redirected more than 5 times"):
            loader.download(own(host, "/a.png"))
        assert len(host.seen) == 6

    def test_redirect_to_nonsense_is_explained(self, host: LocalServer, loader: PictureLoader) -> None:
        host.routes["/a.png"] = redirect("http://host:port/")
        with pytest.raises(ImageUnreachable, match="not an address"):
            loader.download(own(host, "/a.png"))


class TestPrivateHosts:
    @pytest.mark.parametrize(
        "name", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "[::ffff:127.0.0.1]", "0"]
    )
    def test_loopback_is_refused_in_every_spelling(self, host: LocalServer, loader: PictureLoader, name: str) -> None:
        host.routes["/a.png"] = content(encoded())
        with pytest.raises(ImageForbidden, match="inside this server's own network"):
            loader.download(PictureLocation(f"http://{name}:{host.port}/a.png"))
        assert host.seen == []

    def test_private_hosts_can_be_allowed(self, host: LocalServer, open_loader: PictureLoader) -> None:
        host.routes["/a.png"] = content(encoded())
        assert open_loader.download(PictureLocation(f"{host.base}/a.png")).file.decode().width_px == WIDTH_PX

    @pytest.mark.parametrize(
        ("address", "is_public", "is_reachable_inside"),
        [
            ("93.184.216.34", True, True),
            ("2606:2800:220:1::1", True, True),
            ("127.0.0.1", False, True),
            ("::1", False, True),
            ("10.1.2.3", False, True),
            ("172.16.0.1", False, True),
            ("192.168.1.1", False, True),
            ("100.64.0.1", False, True),
            ("fd00::1", False, True),
            ("169.254.169.254", False, False),
            ("fe80::1", False, False),
            ("224.0.0.1", False, False),
            ("240.0.0.1", False, False),
            ("255.255.255.255", False, False),
            ("::ffff:10.0.0.1", False, True),
            ("::ffff:169.254.169.254", False, False),
            ("::ffff:93.184.216.34", True, True),
            ("2002:7f00:1::", False, True),
            ("64:ff9b::a9fe:a9fe", False, False),
            ("::7f00:1", False, False),
        ],
    )
    def test_addresses_are_judged_by_where_they_lead(
        self, address: str, is_public: bool, is_reachable_inside: bool
    ) -> None:
        assert may_reach(address, allow_private_hosts=False) is is_public
        assert may_reach(address, allow_private_hosts=True) is is_reachable_inside

    def test_name_is_resolved_once_and_kept_in_the_host_header(
        self, host: LocalServer, open_loader: PictureLoader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def rebinding(name: str, port: int, *args: object, **options: object) -> list[Any]:
            """The checked address at first, an unreachable one if anybody should ask again."""
            if name == "pictures.example":
                asked.append(name)
            address = "127.0.0.1" if len(asked) == 1 else "240.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        host.routes["/a.png"] = content(encoded())
        open_loader.download(PictureLocation(f"http://pictures.example:{host.port}/a.png"))
        assert asked == ["pictures.example"]
        assert host.seen[0].headers["host"] == f"pictures.example:{host.port}"

    def test_public_names_private_address_is_refused(
        self, host: LocalServer, loader: PictureLoader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", host.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(ImageForbidden):
            loader.download(PictureLocation(f"http://pictures.example:{host.port}/a.png"))

    def test_link_local_is_refused_even_to_label_studio(self, loader: PictureLoader) -> None:
        url = "http://169.254.169.254/latest/meta-data/"
        with pytest.raises(ImageForbidden, match="nothing is ever fetched from there"):
            loader.download(PictureLocation(url, True, None, "http://169.254.169.254"))


class TestAddresses:
    def test_data_uri_holds_the_picture(self, loader: PictureLoader) -> None:
        body = base64.b64encode(encoded()).decode()
        for uri in (
            f"data:image/png;base64,{body}",
            f"DATA:image/png;charset=x;BASE64,{body.rstrip('=')}",
            f"data:;base64,{body[:40]}%0A {body[40:]}",
            f"data:image/png;base64,{base64.urlsafe_b64encode(encoded()).decode()}",
            "data:image/png," + "".join(f"%{byte:02x}" for byte in encoded()),
        ):
            assert loader.download(PictureLocation(uri)).file.decode().width_px == WIDTH_PX

    @pytest.mark.parametrize(
        ("uri", "error"),
        [
            ("data:image/png;base64", InvalidRequest),
            ("data:image/png;base64,****", ImageUndecodable),
            ("data:image/svg+xml,%3Csvg/%3E", ImageUndecodable),
            ("data:image/png;base64,", ImageUndecodable),
            ("data:image/png;base64," + "A" * 140_000, ImageTooLarge),
            ("data:image/png," + "A" * 300_001, ImageTooLarge),
            ("http://host:port/a.png", InvalidRequest),
            ("http:///a.png", InvalidRequest),
            ("http://300.0.0.1/", InvalidRequest),
            ("ftp://host/a.png", ImageForbidden),
            ("file:///etc/passwd", ImageForbidden),
            ("/etc/passwd", ImageForbidden),
        ],
    )
    def test_bad_address_has_a_clear_error(self, loader: PictureLoader, uri: str, error: type[Exception]) -> None:
        with pytest.raises(error) as caught:
            loader.download(PictureLocation(uri))
        assert len(str(caught.value)) < 300

    def test_messages_and_logs_show_no_secret(
        self, host: LocalServer, other: LocalServer, open_loader: PictureLoader, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        host.routes["/a.png"] = redirect(f"{other.base}/bucket/a.png?X-Signature=sesame")
        location = own(host, "/a.png?key=sesame", Token("Token sesame"))
        with pytest.raises(ImageUnreachable) as caught:
            open_loader.download(location)
        assert "sesame" not in str(caught.value)
        assert "sesame" not in repr(location)
        assert "sesame" not in caplog.text

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://u:p@host/a.png?sig=1#f", "https://host/a.png"),
            ("s3://bucket/a b.png", "s3://bucket/a b.png"),
            ("data:image/png;base64,AAAA", "data: URI"),
            ("/data/local-files/?d=x.png", "/data/local-files/?d=x.png"),
        ],
    )
    def test_addresses_are_shown_without_secrets(self, url: str, shown: str) -> None:
        assert redact(url) == shown

    @pytest.mark.parametrize(
        ("url", "origin", "expected"),
        [
            ("http://ls/a", "http://ls", True),
            ("http://LS:80/a", "http://ls/", True),
            ("https://ls/a", "http://ls", False),
            ("http://ls:8080/a", "http://ls", False),
            ("http://ls.evil/a", "http://ls", False),
            ("http://ls@evil/a", "http://ls", False),
            ("http://ls/sub/a", "http://ls/sub", True),
            ("http://ls/subway/a", "http://ls/sub", False),
            ("http://ls/sub/../a", "http://ls/sub", False),
            ("http://ls/sub/%2e%2e/a", "http://ls/sub", False),
            ("http://ls/a", None, False),
        ],
    )
    def test_origin_is_scheme_host_port_and_path(self, url: str, origin: str | None, expected: bool) -> None:
        assert is_within(httpx.URL(url), origin) is expected
