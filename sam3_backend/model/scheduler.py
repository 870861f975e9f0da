"""Whose turn it is on the device: the most urgent call first, one at a time unless the device gains from more.

Calls run in threads of the device's own: libraries that compute with several threads keep a set of them for each thread
that calls, and sets that take turns wake up cold. A call that nobody wants any more is sent away while it waits; calls
of one kind that wait together may be answered together. Long work is a series of short calls, so that a click never
waits for more than the one call that is already running. This module does not know what a call does, nor torch.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sam3_backend.errors import ModelBusy, Superseded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
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


@dataclass(frozen=True, slots=True, eq=False)
class Together(Generic[Item, Result]):
    """Calls of one kind, which the device answers in one pass where several of equal urgency wait.

    Attributes:
        answer: Answers items, one result each, in order. Where it fails for several, each is answered on its own.
        most: Says how many at a time; 1 where the device gains nothing from more.
    """

    answer: Callable[[Sequence[Item]], Sequence[Result]]
    most: Callable[[], int] = lambda: 1


@dataclass(eq=False, slots=True)
class _Ticket:
    kind: Together[Any, Any]
    item: Any
    terms: Terms | SharedTerms
    result: Future[Any] = field(default_factory=Future)

    def is_done(self, within_s: float | None) -> bool:
        """Wait for the result, or what went wrong; whether it has come."""
        try:
            self.result.exception(within_s)
        except TimeoutError:
            return False
        return True


class Scheduler:
    """Gives the device to the most urgent.

    Args:
        max_waiting: Calls that may wait; one more is refused at once.
        at_once: How many calls run at a time.
    """

    def __init__(self, max_waiting: int = 1024, *, at_once: int = 1) -> None:
        self._max_waiting = max_waiting
        self._idle = at_once
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []  # in the order they came
        self._device = ThreadPoolExecutor(at_once, thread_name_prefix="device")

    def run(self, call: Callable[[], Result], terms: Terms | SharedTerms) -> Result:
        """Call ``call`` when the device is free and nobody more urgent waits.

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
        return self.run_together(Together(lambda _: [call()]), None, terms)

    def run_together(self, kind: Together[Item, Result], item: Item, terms: Terms | SharedTerms) -> Result:
        """As ``run``, for an item that may be answered in one pass with others of its kind.

        Args:
            kind: The kind; the same object for items that may go together.
            item: What to answer.
            terms: As for ``run``.
        """
        ticket = _Ticket(kind, item, terms)
        self._enter(ticket)
        while not ticket.is_done(seconds_until(terms.deadline)):
            self._leave_if_late(ticket)
        answered: Result = ticket.result.result()
        return answered

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._lock:
            return len(self._waiting)

    def _enter(self, ticket: _Ticket) -> None:
        with self._lock:
            if not self._idle:
                self._send_away_unwanted()
                if len(self._waiting) >= self._max_waiting:
                    raise ModelBusy(f"{self._max_waiting} requests are waiting for the model. Try again in a moment.")
            self._waiting.append(ticket)
            if self._idle:
                self._idle -= 1
                self._device.submit(self._work)

    def _send_away_unwanted(self) -> None:
        """Answer waiting calls that a newer one took the place of: those who asked hold threads meanwhile."""
        for ticket in [each for each in self._waiting if not each.terms.is_wanted()]:
            self._waiting.remove(ticket)
            ticket.result.set_exception(Superseded(SUPERSEDED))

    def _leave_if_late(self, ticket: _Ticket) -> None:
        """Give up waiting, unless the turn has come in this very moment, or somebody joined who waits longer.

        Raises:
            ModelBusy: The ticket is given up.
        """
        with self._lock:
            is_waiting = ticket in self._waiting
            if is_waiting and seconds_until(ticket.terms.deadline) == 0:
                self._waiting.remove(ticket)
                raise ModelBusy(TOO_BUSY)
        if not is_waiting:
            ticket.is_done(None)

    def _work(self) -> None:
        """Answer tickets, in one of the device's threads, until none waits."""
        while tickets := self._next():
            wanted = [each for each in tickets if each.terms.is_wanted()]
            for ticket in tickets:
                if ticket not in wanted:
                    ticket.result.set_exception(Superseded(SUPERSEDED))
            if wanted:
                _answer(wanted)

    def _next(self) -> list[_Ticket]:
        """The most urgent ticket, and those that may go with it; none where none waits, and a thread is idle."""
        with self._lock:
            if not self._waiting:
                self._idle += 1
                return []
            # Priorities are read now and not kept in order, because shared terms change; of equals the first goes.
            first = min(self._waiting, key=lambda ticket: ticket.terms.priority)
            priority = first.terms.priority
            alike = (each for each in self._waiting if each.kind is first.kind and each.terms.priority == priority)
            chosen = [ticket for ticket, _ in zip(alike, range(first.kind.most()), strict=False)]
            self._waiting = [each for each in self._waiting if each not in chosen]
            return chosen


def _answer(tickets: list[_Ticket]) -> None:
    try:
        results = tickets[0].kind.answer([each.item for each in tickets])
    except BaseException as fault:  # noqa: BLE001  it belongs to whoever asked
        if len(tickets) == 1:
            tickets[0].result.set_exception(fault)
            return
        for ticket in tickets:  # one item's fault is not the others', and each alone needs less memory
            _answer([ticket])
        return
    for ticket, result in zip(tickets, results, strict=True):
        ticket.result.set_result(result)
