"""Writes to the shared store that nobody waits for. Knows neither the store nor what is written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PENDING_WRITES = 8
"""Writes that wait; what comes while so many do is not shared rather than held in memory."""


class BackgroundWriter:
    """Writes one after the other, behind the caller's back. Thread-safe.

    Args:
        name: Of its thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._room = threading.Semaphore(MAX_PENDING_WRITES)

    def later(self, write: Callable[[], object]) -> bool:
        """Have something written soon; False where too much waits already, and it will not be."""
        if not self._room.acquire(blocking=False):
            return False

        def write_and_make_room() -> None:
            try:
                write()
            finally:
                self._room.release()

        self._thread.submit(write_and_make_room)
        return True

    def flush(self) -> None:
        """Return once everything that waits has been written, or given up."""
        self._thread.submit(lambda: None).result()
