"""Whose turn it is on the device: one model call at a time, the most urgent first.

A call runs in the thread that asked for it. Long work is a series of short calls, so that a click never waits for more
than the one call that is already running. This module does not know what a call does, nor torch.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from sam3_backend.errors import ModelBusy

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class Priority(IntEnum):
    """How urgent a call is; smaller goes first."""

    INTERACTIVE = 0
    """An annotator placed a prompt and watches a spinner."""
    TASK_OPEN = 1
    """An annotator opened a task that has no predictions."""
    BULK = 2
    """Nobody looks at the single picture."""
    WARM = 3
    """A guess at what will be asked next."""


class Scheduler:
    """Gives the device to one caller at a time.

    Args:
        max_waiting: Calls that may wait; one more is refused at once.
    """

    def __init__(self, max_waiting: int = 1024) -> None:
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: list[tuple[Priority, int, threading.Event]] = []
        self._tickets = itertools.count()

    def run(self, call: Callable[[], Result], priority: Priority) -> Result:
        """Call ``call`` when no other call runs and nobody more urgent waits.

        Returns:
            What ``call`` returned.

        Raises:
            ModelBusy: Too many calls wait already.
        """
        self._take(priority)
        try:
            return call()
        finally:
            self._pass_on()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._lock:
            return len(self._waiting)

    def _take(self, priority: Priority) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            if len(self._waiting) >= self._max_waiting:
                raise ModelBusy(
                    f"{self._max_waiting} requests are waiting for the model already. Try again in a moment."
                )
            turn = threading.Event()
            heapq.heappush(self._waiting, (priority, next(self._tickets), turn))
        turn.wait()

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting)[2].set()  # the device stays taken: it changes hands
            else:
                self._is_taken = False
