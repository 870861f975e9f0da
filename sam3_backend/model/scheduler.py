"""Whose turn it is on the device: one model call at a time, the most urgent first.

A call runs in the thread that asked for it. Long work is a series of short calls, so that a click never waits for more
than the one call that is already running. This module does not know what a call does, nor torch.
"""

from __future__ import annotations

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


class SharedTerms:
    """The terms of one call whose result several wait for: as urgent as the most urgent of them. Thread-safe.

    Neither one waiter's deadline nor its newer prompt stops what the others wait for too.

    Args:
        first: The terms of whoever asks for the call first.
    """

    deadline: None = None

    def __init__(self, first: Terms) -> None:
        self._lock = threading.Lock()
        self._priority = first.priority

    @property
    def priority(self) -> Priority:
        """How urgent the call is by now."""
        return self._priority

    def is_wanted(self) -> bool:
        """Somebody always wants the result."""
        return True

    def join(self, other: SharedTerms) -> None:
        """Somebody waits for the same result on other terms.

        Where these are more urgent, the call goes before what it would have waited for; one that runs already is left
        alone.
        """
        with self._lock:
            self._priority = min(self._priority, other.priority)


@dataclass(eq=False, slots=True)
class _Ticket:
    terms: Terms | SharedTerms
    is_called: threading.Event = field(default_factory=threading.Event)


class Scheduler:
    """Gives the device to one caller at a time.

    Args:
        max_waiting: Calls that may wait; one more is refused at once.
    """

    def __init__(self, max_waiting: int = 1024) -> None:
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: list[_Ticket] = []  # in the order they came

    def run(self, call: Callable[[], Result], terms: Terms | SharedTerms) -> Result:
        """Call ``call`` when no other call runs and nobody more urgent waits.

        Args:
            call: What to do.
            terms: On what terms it waits. Shared ones may become more urgent meanwhile, and then count as if they had
                been from the start.

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

    def _take(self, terms: Terms | SharedTerms) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            if len(self._waiting) >= self._max_waiting:
                raise ModelBusy(f"{self._max_waiting} requests are waiting for the model. Try again in a moment.")
            ticket = _Ticket(terms)
            self._waiting.append(ticket)
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
        raise ModelBusy("The model was too busy to answer in time. Try again in a moment.")

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                # Priorities are read now and not kept in order, because shared terms change; of equals the first goes.
                first = min(self._waiting, key=lambda ticket: ticket.terms.priority)
                self._waiting.remove(first)
                first.is_called.set()  # the device stays taken: it changes hands
            else:
                self._is_taken = False
