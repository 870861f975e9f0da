"""Whose turn it is on the device: one model call at a time, the most urgent first.

A call runs in the thread that asked for it. Long work is a series of short calls, so that a click never waits for more
than the one call that is already running. This module does not know what a call does, nor torch.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from sam3_backend.errors import ModelBusy, Superseded

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


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a call waits for the device.

    Attributes:
        priority: How urgent it is.
        deadline: Monotonic seconds after which nobody reads the answer any more; None to wait for ever.
        is_wanted: Asked when the call's turn has come: whether anybody still wants its result.
    """

    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    is_wanted: Callable[[], bool] = _always


@dataclass(order=True, slots=True)
class _Ticket:
    priority: Priority
    number: int
    is_called: threading.Event = field(default_factory=threading.Event, compare=False)


class Scheduler:
    """Gives the device to one caller at a time.

    Args:
        max_waiting: Calls that may wait; one more is refused at once.
    """

    def __init__(self, max_waiting: int = 1024) -> None:
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: list[_Ticket] = []
        self._numbers = itertools.count()

    def run(self, call: Callable[[], Result], terms: Terms) -> Result:
        """Call ``call`` when no other call runs and nobody more urgent waits.

        Returns:
            What ``call`` returned.

        Raises:
            ModelBusy: Too many calls wait already, or the turn did not come before the deadline.
            Superseded: When the turn came nobody wanted the result any more.
        """
        self._take(terms)
        try:
            if not terms.is_wanted():
                raise Superseded("A newer prompt took this one's place.")
            return call()
        finally:
            self._pass_on()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._lock:
            return len(self._waiting)

    def _take(self, terms: Terms) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            if len(self._waiting) >= self._max_waiting:
                raise ModelBusy(f"{self._max_waiting} requests are waiting for the model. Try again in a moment.")
            ticket = _Ticket(terms.priority, next(self._numbers))
            heapq.heappush(self._waiting, ticket)
        timeout_s = None if terms.deadline is None else max(0.0, terms.deadline - time.monotonic())
        if not ticket.is_called.wait(timeout_s):
            self._leave(ticket)

    def _leave(self, ticket: _Ticket) -> None:
        """Give up waiting, unless the turn has come in this very moment.

        Raises:
            ModelBusy: The ticket is given up.
        """
        with self._lock:
            if ticket.is_called.is_set():
                return
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)
        raise ModelBusy("The model was too busy to answer in time. Try again in a moment.")

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting).is_called.set()  # the device stays taken: it changes hands
            else:
                self._is_taken = False
