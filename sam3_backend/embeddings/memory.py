"""The first tier: what is kept in the process, as much as fits into a number of bytes.

Least recently used goes first. Knows neither Redis nor the model, nor what it keeps: embeddings in one, refinements in
another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable


class Keepable(Protocol):
    """Something with a key and a size: an embedding, a refinement."""

    @property
    def key(self) -> Hashable:
        """What it depends on."""

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""


Kept = TypeVar("Kept", bound=Keepable)


class MemoryTier(Generic[Kept]):
    """A thread-safe, byte-bounded LRU.

    Args:
        max_bytes: Most bytes kept; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes kept now."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Kept | None:
        """What is kept under ``key``, or None; a hit makes it the most recently used."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, new: Kept) -> None:
        """Keep something, dropping the least recently used that no longer fits.

        What is larger than the whole tier is not kept.
        """
        with self._lock:
            self._drop(new.key)
            if new.nbytes > self._max_bytes:
                return
            self._kept[new.key] = new
            self._nbytes += new.nbytes
            while self._nbytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._kept.clear()
            self._nbytes = 0

    def _drop(self, key: Hashable) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._nbytes -= dropped.nbytes
