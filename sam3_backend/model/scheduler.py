"""Whose turn it is on the device: one model call at a time, the most urgent first.

All calls run in one thread, the device's own: libraries that compute with several threads keep a set of them for each
thread that calls, and sets that take turns wake up cold. A call that nobody wants any more is sent away while it waits.
Long work is a series of short calls, so that a click never waits for more than the one call that is already running.
This module does not know what a call does, nor torch.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from sam3_backend.errors import ModelBusy, Superseded

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

SUPERSEDED = "A newer prompt took this one's place."
TOO_BUSY = "The model was too busy to answer in time. Try again in a moment."


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
        is_wanted: Whether anybody still wants its result. Asked when the call's turn has come, and whenever another
            call begins to wait; must be quick, and call no scheduler.
    """

    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    is_wanted: Callable[[], bool] = _always


class SharedTerms:
    """The terms of one call whose result several wait for: as urgent as the most urgent of them. Thread-safe.

    Neither one waiter's deadline nor its newer prompt stops what the others wait for too: only once the last deadline
    has passed nobody waits.

    Args:
        first: The terms of whoever asks for the call first.
    """

    def __init__(self, first: Terms) -> None:
        self._lock = threading.Lock()
        self._priority = first.priority
        self._deadline = first.deadline

    @property
    def priority(self) -> Priority:
        """How urgent the call is by now."""
        return self._priority

    @property
    def deadline(self) -> float | None:
        """Monotonic seconds after which nobody waits any more, as far as is known by now; None for never."""
        return self._deadline

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
            if self._deadline is not None:
                self._deadline = None if other.deadline is None else max(self._deadline, other.deadline)


def seconds_until(deadline: float | None) -> float | None:
    """Seconds left until a deadline in monotonic seconds, 0 where it has passed; None where there is none."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@dataclass(eq=False, slots=True)
class _Ticket:
    terms: Terms | SharedTerms
    is_over: threading.Event = field(default_factory=threading.Event)  # the wait: called, or sent away
    is_sent_away: bool = False


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
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")

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
            Superseded: While it waited, or when its turn came, nobody wanted the result any more.
        """
        self._take(terms)
        try:
            if not terms.is_wanted():
                raise Superseded(SUPERSEDED)
            return self._device.submit(call).result()
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
            self._send_away_unwanted()
            if len(self._waiting) >= self._max_waiting:
                raise ModelBusy(f"{self._max_waiting} requests are waiting for the model. Try again in a moment.")
            ticket = _Ticket(terms)
            self._waiting.append(ticket)
        while not ticket.is_over.wait(seconds_until(terms.deadline)):
            self._leave_if_late(ticket)
        if ticket.is_sent_away:
            raise Superseded(SUPERSEDED)

    def _send_away_unwanted(self) -> None:
        """Answer waiting calls that a newer one took the place of: those who asked hold threads meanwhile."""
        for ticket in [each for each in self._waiting if not each.terms.is_wanted()]:
            self._waiting.remove(ticket)
            ticket.is_sent_away = True
            ticket.is_over.set()

    def _leave_if_late(self, ticket: _Ticket) -> None:
        """Give up waiting, unless the turn has come in this very moment, or somebody joined who waits longer.

        Raises:
            ModelBusy: The ticket is given up.
        """
        with self._lock:
            if ticket.is_over.is_set() or seconds_until(ticket.terms.deadline) != 0:
                return
            self._waiting.remove(ticket)
        raise ModelBusy(TOO_BUSY)

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                # Priorities are read now and not kept in order, because shared terms change; of equals the first goes.
                first = min(self._waiting, key=lambda ticket: ticket.terms.priority)
                self._waiting.remove(first)
                first.is_over.set()  # the device stays taken: it changes hands
            else:
                self._is_taken = False
