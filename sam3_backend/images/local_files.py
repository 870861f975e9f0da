"""Pictures in files of this machine, beside those that are downloaded: for commands that a person starts.

A server never has this: an address in a task must not lead into its own file system.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from sam3_backend.errors import ImageTooLarge, ImageUnreachable
from sam3_backend.images.known import Sighting
from sam3_backend.images.location import PictureLocation
from sam3_backend.images.picture import read_picture_file

if TYPE_CHECKING:
    from sam3_backend.images.picture import PictureFile

_SCHEME = "file://"


class Fetches(Protocol):
    """What fetches all other pictures: ``KnownPictures``."""

    def look(self, location: PictureLocation) -> Sighting:
        """Say what stands behind a location."""

    def fetch(self, location: PictureLocation) -> PictureFile:
        """Fetch a picture."""


def file_location(path: Path) -> PictureLocation:
    """The location of a file."""
    return PictureLocation(path.resolve().as_uri(), uri=str(path))


class LocalFiles:
    """Reads pictures whose location is a file's and leaves all others to somebody else. Thread-safe.

    Args:
        others: Fetches the others.
        max_bytes: Largest file.
        max_pixels: Largest picture, width times height.
    """

    def __init__(self, others: Fetches, *, max_bytes: int, max_pixels: int) -> None:
        self._others = others
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    def look(self, location: PictureLocation) -> Sighting:
        """Say what stands behind a location; raises as ``fetch``."""
        if not location.url.startswith(_SCHEME):
            return self._others.look(location)
        file = self.fetch(location)
        return Sighting(file.content_hash, file)

    def fetch(self, location: PictureLocation) -> PictureFile:
        """Read a picture's file.

        Raises:
            ImageError: It cannot be had or is none.
        """
        if not location.url.startswith(_SCHEME):
            return self._others.fetch(location)
        path = Path(unquote(urlsplit(location.url).path))
        try:
            if path.stat().st_size > self._max_bytes:
                raise ImageTooLarge(f"{location.name} has more than {self._max_bytes:,} bytes (IMAGE_MAX_BYTES).")
            data = path.read_bytes()
        except OSError as fault:
            raise ImageUnreachable(f"{location.name} cannot be read: {fault.strerror}.") from fault
        return read_picture_file(data, max_pixels=self._max_pixels)
