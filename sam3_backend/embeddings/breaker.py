"""Stops asking a service that does not answer, and asks again after a while.

Without it every request would wait for the same time-out. Knows nothing of the service.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Breaker:
    """Closed while the service answers; open for a growing pause after each failure. Thread-safe.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self._ask_again_at = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether the service answered last time."""
        return self._pause_s == 0

    def allows(self) -> bool:
        """Whether to ask the service now. Of all callers at a pause's end only one is told to."""
        with self._lock:
            if self._pause_s == 0:
                return True
            if self._clock() < self._ask_again_at:
                return False
            self._ask_again_at = self._clock() + self._pause_s
            return True

    def succeeded(self) -> bool:
        """Note an answer; True if the service had been failing before."""
        with self._lock:
            was_failing = self._pause_s > 0
            self._pause_s = 0.0
            return was_failing

    def failed(self) -> bool:
        """Note a failure; True if the service had been answering before."""
        with self._lock:
            was_answering = self._pause_s == 0
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s) if self._pause_s else FIRST_PAUSE_S
            self._ask_again_at = self._clock() + self._pause_s
            return was_answering
