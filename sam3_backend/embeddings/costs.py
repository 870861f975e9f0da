"""Whether fetching an embedding from the shared store is quicker than making it, as measured in this process.

On a slow network and a fast GPU it is not. Knows only seconds.
"""

from __future__ import annotations

import threading

WEIGHT = 0.2
"""How much a new measurement moves the running estimate."""
PROBE_EVERY = 32
"""While fetching does not pay it is still tried once in so many times, because networks and loads change."""


class Costs:
    """Running estimates of both costs. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetch_s: float | None = None
        self._make_s: float | None = None
        self._skipped = 0

    def fetched(self, seconds: float) -> None:
        """Note that fetching an embedding took so long."""
        with self._lock:
            self._fetch_s = _moved(self._fetch_s, seconds)

    def made(self, seconds: float) -> None:
        """Note that making an embedding took so long, the wait for the device included."""
        with self._lock:
            self._make_s = _moved(self._make_s, seconds)

    def fetching_pays(self) -> bool:
        """Whether to ask the shared store for the next embedding."""
        with self._lock:
            if self._fetch_s is None or self._make_s is None or self._fetch_s <= self._make_s:
                return True
            self._skipped = (self._skipped + 1) % PROBE_EVERY
            return self._skipped == 0


def _moved(estimate: float | None, measured: float) -> float:
    return measured if estimate is None else estimate + WEIGHT * (measured - estimate)
