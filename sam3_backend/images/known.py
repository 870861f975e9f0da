"""Which content stands behind an address, so that a click on a known picture fetches nothing.

An upload of Label Studio never changes: its address stands for one content for ever. Any other address is believed for
a few seconds and then asked again, with what its host calls the version last seen, so that an unchanged picture costs
one small exchange and a changed one is noticed. Keeps hashes and addresses, never pictures.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.images.loader import Download
    from sam3_backend.images.location import PictureLocation, Validators
    from sam3_backend.images.picture import PictureFile

MOST_ADDRESSES = 100_000
FRESH_S = 5.0
"""How long an address that may change is believed without asking."""


class Downloads(Protocol):
    """What downloads: ``PictureLoader``."""

    def download(self, location: PictureLocation, unless: Validators | None = None) -> Download | None:
        """Fetch a picture's file, or None where it is still the version that ``unless`` names."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What stands behind an address now.

    Attributes:
        content_hash: As in ``PictureFile``.
        file: The file, if it had to be fetched to know.
    """

    content_hash: str
    file: PictureFile | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    content_hash: str
    validators: Validators
    seen_at_s: float


class KnownPictures:
    """Remembers the content of addresses; thread-safe.

    Args:
        downloads: Fetches what is not known.
        clock: Monotonic seconds.
    """

    def __init__(self, downloads: Downloads, clock: Callable[[], float] = time.monotonic) -> None:
        self._downloads = downloads
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str | None, str], _Known] = OrderedDict()

    def look(self, location: PictureLocation) -> Sighting:
        """Say what stands behind an address, fetching it only where that cannot be said otherwise.

        Raises:
            ImageError: The picture cannot be had or is none.
            InvalidRequest: The address is not one.
            LabelStudioError: Label Studio does not give a token for the authorization.
        """
        known = self._recall(location)
        if known is None:
            file = self.fetch(location)
            return Sighting(file.content_hash, file)
        if location.is_immutable or self._clock() - known.seen_at_s < FRESH_S:
            return Sighting(known.content_hash)
        return self._look_again(location, known)

    def fetch(self, location: PictureLocation) -> PictureFile:
        """Fetch a picture's file, whatever is known; raises as ``look``."""
        seen_at_s = self._clock()
        download = self._downloads.download(location)
        if download is None:
            raise RuntimeError("an unconditional download gave no file")
        self._remember(location, _Known(download.file.content_hash, download.validators, seen_at_s))
        return download.file

    def _look_again(self, location: PictureLocation, known: _Known) -> Sighting:
        """Ask the host whether it still has the version that is known."""
        seen_at_s = self._clock()
        download = self._downloads.download(location, unless=known.validators)
        if download is None:
            self._remember(location, replace(known, seen_at_s=seen_at_s))
            return Sighting(known.content_hash)
        self._remember(location, _Known(download.file.content_hash, download.validators, seen_at_s))
        return Sighting(download.file.content_hash, download.file)

    def _recall(self, location: PictureLocation) -> _Known | None:
        with self._lock:
            known = self._known.get(_address(location))
            if known is not None:
                self._known.move_to_end(_address(location))
            return known

    def _remember(self, location: PictureLocation, known: _Known) -> None:
        if location.is_inline:
            return
        with self._lock:
            self._known[_address(location)] = known
            self._known.move_to_end(_address(location))
            while len(self._known) > MOST_ADDRESSES:
                self._known.popitem(last=False)


def _address(location: PictureLocation) -> tuple[str | None, str]:
    return location.origin, location.url
