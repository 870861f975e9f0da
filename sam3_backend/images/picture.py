"""A picture file's bytes, read as a browser would show them: upright, RGB, first frame, transparency over white.

Two steps, because the second is the dear one: ``read_picture_file`` looks at the header alone (size, orientation,
hash), ``PictureFile.decode`` makes the pixels. Whoever finds an embedding under the hash never needs the pixels.
Knows nothing of where the bytes came from. Changes none of Pillow's global switches.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from sam3_backend.errors import ImageTooLarge, ImageUndecodable
from sam3_backend.images.other_content import name_content

if TYPE_CHECKING:
    import numpy.typing as npt

    PixelArray = npt.NDArray[np.uint8]

# The formats a browser shows, and TIFF, JPEG 2000 and PPM for the command line. Named one by one: Pillow's own list
# also holds formats that run other programs.
_PLUGINS = (
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    BmpImagePlugin,
    AvifImagePlugin,
    TiffImagePlugin,
    Jpeg2KImagePlugin,
    PpmImagePlugin,
)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "JPEG2000", "PPM")

# Part of every content hash: raise it when the same bytes would give other pixels than before.
_READING = b"sam3-backend picture 1\n"

_ORIENTATION_TAG = 0x0112
_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_SIDEWAYS = 5
_DEEP_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        rgb: (height, width, 3) uint8 in [0, 255], RGB, read-only, EXIF orientation applied.
        content_hash: SHA-256 of the file's bytes and of how they are read, hex; equal hashes mean equal pixels.
    """

    rgb: PixelArray
    content_hash: str

    def __post_init__(self) -> None:
        self.rgb.setflags(write=False)

    @property
    def width_px(self) -> int:
        """Width of the upright picture in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height_px(self) -> int:
        """Height of the upright picture in pixels."""
        return int(self.rgb.shape[0])


@dataclass(frozen=True)
class PictureFile:
    """A picture whose header has been read and found good, and whose pixels have not been made yet.

    Attributes:
        data: The file's bytes.
        content_hash: As in ``Picture``.
        width_px: Width of the upright picture in pixels.
        height_px: Height of the upright picture in pixels.
    """

    data: bytes
    content_hash: str
    width_px: int
    height_px: int

    def decode(self) -> Picture:
        """Make the pixels.

        Raises:
            ImageUndecodable: The file is cut off or damaged.
        """
        try:
            image = _open(self.data)
            orientation = _orientation(image)
            image.load()
            rgb = _upright_rgb(image, orientation)
        except ImageUndecodable:
            raise
        except Exception as fault:  # decoders fed with foreign bytes raise anything
            raise ImageUndecodable(
                f"The picture ({len(self.data):,} bytes) is cut off or damaged: {fault}. Upload it again."
            ) from fault
        return Picture(rgb=rgb, content_hash=self.content_hash)


def decode_picture(data: bytes, *, max_pixels: int) -> Picture:
    """Read a picture file's bytes to upright RGB pixels.

    Raises:
        ImageTooLarge: The header promises more than ``max_pixels`` pixels; nothing has been decoded.
        ImageUndecodable: The bytes are not a picture that can be read.
    """
    return read_picture_file(data, max_pixels=max_pixels).decode()


def read_picture_file(data: bytes, *, max_pixels: int) -> PictureFile:
    """Read a picture file's header.

    Raises:
        ImageTooLarge: The header promises more than ``max_pixels`` pixels.
        ImageUndecodable: The bytes are not a picture that can be read.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        # Pillow reads on to the first pixels before it tells the size; the limit should not wait for that.
        _refuse_too_many_pixels(*struct.unpack(">II", data[16:24]), max_pixels=max_pixels)
    try:
        image = _open(data)
    except ImageUndecodable:
        raise
    except Exception as fault:  # decoders fed with foreign bytes raise anything
        raise ImageUndecodable(f"The picture's header is cut off or damaged: {fault}. Upload it again.") from fault
    width, height = image.size
    _refuse_too_many_pixels(width, height, max_pixels=max_pixels)
    if _orientation(image) >= _FIRST_SIDEWAYS:
        width, height = height, width
    return PictureFile(data, hashlib.sha256(_READING + data).hexdigest(), width, height)


def _refuse_too_many_pixels(width: int, height: int, *, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"The picture has {width} x {height} pixels ({width * height / 1e6:.1f} megapixels); "
            f"the limit is {max_pixels / 1e6:.1f} (IMAGE_MAX_PIXELS)."
        )


def _open(data: bytes) -> Image.Image:
    """The picture with its header read and its pixels not yet.

    Not ``Image.open``: that one warns or raises by a process-wide pixel limit before the size can be asked for.
    """
    prefix = data[:16]
    for name in _FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(prefix) is True:
            return factory(io.BytesIO(data), "")
    raise ImageUndecodable(f"Instead of a picture there came {name_content(data)}.")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, as Chromium sees it: the page's picture and ours must have the same size.

    To be asked before the pixels are loaded: a PNG's orientation counts before its pixels, not after them. Of EXIF
    alone, since Pillow's ``getexif`` would also believe XMP. Never of WebP. TIFF is turned by Pillow itself.
    """
    data = image.info.get("exif")
    if image.format in {"TIFF", "WEBP"} or not data:
        return 1
    exif = Image.Exif()
    try:
        exif.load(data)
        orientation = int(exif.get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF is no reason to lose the picture, and a browser ignores it too
        return 1
    return orientation if orientation in _UPRIGHT_BY else 1


def _upright_rgb(image: Image.Image, orientation: int) -> PixelArray:
    """(height, width, 3) uint8 of an image whose pixels are loaded."""
    if image.mode in _DEEP_MODES:
        flat = _to_eight_bits(image)
    elif image.has_transparency_data:
        over = image.convert("RGBA")
        flat = Image.new("RGB", over.size, "white")
        flat.paste(over, mask=over.getchannel("A"))
    else:
        flat = image.convert("RGB")
    turn = _UPRIGHT_BY.get(orientation)
    return np.asarray(flat if turn is None else flat.transpose(turn))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale deeper than 8 bits, stretched from its darkest to its brightest pixel.

    Cameras with 10, 12 or 14 bits leave the top of their 16 empty: scaled by the type's range they would be black.
    """
    deep = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = float(deep.min()), float(deep.max())
    grey = (deep - low) * (255.0 / (high - low)) if high > low else np.clip(deep, 0, 255)
    return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")
