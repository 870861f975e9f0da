"""What is known of an address, against a real HTTP server that says which version it has."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from sam3_backend.images import KnownPictures, PictureLoader, PictureLocation
from sam3_backend.images.known import FRESH_S
from tests.local_http import LocalServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "PNG")
    return file.getvalue()


class VersionedFile:
    """A file whose host knows ETags, unless it is told not to."""

    def __init__(self) -> None:
        self.body = png("red")
        self.has_etag = True
        self.sent = 0

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        etag = f'"{hash(self.body)}"'
        is_unchanged = self.has_etag and handler.headers.get("If-None-Match") == etag
        body = b"" if is_unchanged else self.body
        self.sent += not is_unchanged
        handler.send_response(304 if is_unchanged else 200)
        if self.has_etag:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture
def file(server: LocalServer) -> VersionedFile:
    file = VersionedFile()
    server.routes["/a.png"] = file
    return file


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Iterator[KnownPictures]:
    loader = PictureLoader(allow_private_hosts=True)
    yield KnownPictures(loader, clock)
    loader.close()


def upload(server: LocalServer) -> PictureLocation:
    return PictureLocation(f"{server.base}/a.png", is_trusted=True, origin=server.base, is_immutable=True)


def test_an_upload_is_fetched_once_for_ever(
    server: LocalServer, file: VersionedFile, known: KnownPictures, clock: Clock
) -> None:
    first = known.look(upload(server))
    assert first.file is not None
    clock.now_s += 10**6
    again = known.look(upload(server))
    assert (again.content_hash, again.file) == (first.content_hash, None)
    assert len(server.seen) == 1


def test_any_other_address_is_believed_for_a_few_seconds(
    server: LocalServer, file: VersionedFile, known: KnownPictures, clock: Clock
) -> None:
    location = PictureLocation(f"{server.base}/a.png")
    first = known.look(location)
    clock.now_s += FRESH_S / 2
    assert known.look(location).content_hash == first.content_hash
    assert len(server.seen) == 1


def test_an_unchanged_picture_costs_one_small_exchange(
    server: LocalServer, file: VersionedFile, known: KnownPictures, clock: Clock
) -> None:
    location = PictureLocation(f"{server.base}/a.png")
    first = known.look(location)
    clock.now_s += FRESH_S
    again = known.look(location)
    assert (again.content_hash, again.file) == (first.content_hash, None)
    assert (len(server.seen), file.sent) == (2, 1)


def test_a_changed_picture_is_noticed_and_comes_with_the_question(
    server: LocalServer, file: VersionedFile, known: KnownPictures, clock: Clock
) -> None:
    location = PictureLocation(f"{server.base}/a.png")
    first = known.look(location)
    file.body = png("blue")
    clock.now_s += FRESH_S
    again = known.look(location)
    assert again.file is not None
    assert again.content_hash != first.content_hash
    assert len(server.seen) == 2


def test_a_host_that_knows_dates_alone_is_asked_with_the_last_one(
    server: LocalServer, known: KnownPictures, clock: Clock
) -> None:
    body, dates, asked_since = png("red"), ["Sat, 01 Nov 2025 10:00:00 GMT", "Sat, 01 Nov 2025 11:00:00 GMT"], []

    def dated(handler: BaseHTTPRequestHandler) -> None:
        asked_since.append(handler.headers.get("If-Modified-Since"))
        is_unchanged = asked_since[-1] == dates[0]
        handler.send_response(304 if is_unchanged else 200)
        handler.send_header("Last-Modified", dates[0])
        handler.send_header("Content-Length", "0" if is_unchanged else str(len(body)))
        handler.end_headers()
        handler.wfile.write(b"" if is_unchanged else body)

    server.routes["/a.png"] = dated
    location = PictureLocation(f"{server.base}/a.png")
    first = known.look(location)
    clock.now_s += FRESH_S
    again = known.look(location)
    assert (again.content_hash, again.file) == (first.content_hash, None)
    body, unchanged_since = png("blue"), dates.pop(0)
    clock.now_s += FRESH_S
    assert known.look(location).content_hash != first.content_hash
    assert asked_since == [None, unchanged_since, unchanged_since]


def test_a_host_that_names_no_versions_is_asked_for_the_picture_again(
    server: LocalServer, file: VersionedFile, known: KnownPictures, clock: Clock
) -> None:
    file.has_etag = False
    location = PictureLocation(f"{server.base}/a.png")
    known.look(location)
    clock.now_s += FRESH_S
    assert known.look(location).file is not None


def test_two_label_studios_do_not_share_what_is_known(
    server: LocalServer, file: VersionedFile, known: KnownPictures
) -> None:
    known.look(upload(server))
    other = PictureLocation(f"{server.base}/a.png", is_trusted=True, origin=f"{server.base}/a.png", is_immutable=True)
    assert known.look(other).file is not None


def test_a_picture_inside_its_address_is_not_kept() -> None:
    known = KnownPictures(PictureLoader())
    uri = "data:image/png;base64," + base64.b64encode(png("red")).decode()
    assert known.look(PictureLocation(uri)).file is not None
    assert known.look(PictureLocation(uri)).file is not None
