"""The most urgent call first, one at a time unless more are allowed or may go together."""

from __future__ import annotations

import threading
import time

import pytest

from sam3_backend.errors import ModelBusy, Superseded
from sam3_backend.model.scheduler import Priority, Scheduler, SharedTerms, Terms, Together


class HeldDevice:
    """Occupies a scheduler until it is released, so that callers queue up behind it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._running, self._release = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=scheduler.run, args=(self._hold, Terms(Priority.INTERACTIVE)))

    def _hold(self) -> None:
        self._running.set()
        assert self._release.wait(10)

    def __enter__(self) -> HeldDevice:
        self._thread.start()
        assert self._running.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._thread.join(10)


def wait_until_waiting(scheduler: Scheduler, count: int) -> None:
    deadline = time.monotonic() + 10
    while scheduler.waiting != count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_most_urgent_caller_goes_first_and_equals_keep_their_order() -> None:
    scheduler, order = Scheduler(), []
    threads = []
    with HeldDevice(scheduler):
        for priority in (Priority.BULK, Priority.WARM, Priority.INTERACTIVE, Priority.BULK, Priority.TASK_OPEN):
            name = f"{priority.name}-{len(threads)}"
            threads.append(
                threading.Thread(target=scheduler.run, args=(lambda n=name: order.append(n), Terms(priority)))
            )
            threads[-1].start()
            wait_until_waiting(scheduler, len(threads))
    for thread in threads:
        thread.join(10)
    assert order == ["INTERACTIVE-2", "TASK_OPEN-4", "BULK-0", "BULK-3", "WARM-1"]


class Queue:
    """Calls that wait behind a held device, each in a thread of its own, and the order in which they ran."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.order: list[str] = []
        self._scheduler = scheduler
        self._threads: list[threading.Thread] = []

    def add(self, name: str, terms: Terms | SharedTerms) -> None:
        """Let a call queue up; returns once it waits."""
        waiting = self._scheduler.waiting
        thread = threading.Thread(target=self._scheduler.run, args=(lambda: self.order.append(name), terms))
        self._threads.append(thread)
        thread.start()
        wait_until_waiting(self._scheduler, waiting + 1)

    def join(self) -> list[str]:
        """The order, once all have run."""
        for thread in self._threads:
            thread.join(10)
        return self.order


def shared(priority: Priority) -> SharedTerms:
    return SharedTerms(Terms(priority))


def test_the_last_of_a_bulk_queue_runs_next_once_an_annotator_waits_for_it_too() -> None:
    scheduler = Scheduler()
    queue = Queue(scheduler)
    bulk = [shared(Priority.BULK) for _ in range(20)]
    with HeldDevice(scheduler):
        for number, terms in enumerate(bulk):
            queue.add(str(number), terms)
        bulk[-1].join(shared(Priority.INTERACTIVE))
    assert queue.join() == ["19", *(str(number) for number in range(19))]


def test_a_call_that_became_urgent_keeps_its_place_among_urgent_ones() -> None:
    scheduler = Scheduler()
    queue, guess = Queue(scheduler), shared(Priority.WARM)
    with HeldDevice(scheduler):
        queue.add("early", Terms(Priority.INTERACTIVE))
        queue.add("raised", guess)
        queue.add("late", Terms(Priority.INTERACTIVE))
        guess.join(shared(Priority.INTERACTIVE))
    assert queue.join() == ["early", "raised", "late"]


def test_somebody_less_urgent_does_not_make_a_call_wait_longer() -> None:
    terms = shared(Priority.TASK_OPEN)
    terms.join(shared(Priority.WARM))
    assert terms.priority == Priority.TASK_OPEN


def test_a_running_call_that_becomes_more_urgent_is_left_alone() -> None:
    scheduler, terms, is_running, release = Scheduler(), shared(Priority.BULK), threading.Event(), threading.Event()
    runs = []

    def call() -> None:
        runs.append(1)
        is_running.set()
        assert release.wait(10)

    running = threading.Thread(target=scheduler.run, args=(call, terms))
    running.start()
    assert is_running.wait(10)
    queue = Queue(scheduler)
    queue.add("next", Terms(Priority.BULK))
    terms.join(shared(Priority.INTERACTIVE))
    assert (runs, queue.order, scheduler.waiting) == ([1], [], 1)
    release.set()
    running.join(10)
    assert (runs, queue.join()) == ([1], ["next"])


@pytest.mark.parametrize("allowed", [1, 3])
def test_of_many_calls_never_more_run_at_a_time_than_allowed(allowed: int) -> None:
    scheduler, running, most = Scheduler(at_once=allowed), [], []

    def call() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.001)
        running.pop()

    threads = [threading.Thread(target=scheduler.run, args=(call, Terms(Priority.BULK))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 40
    assert max(most) <= allowed


def test_a_failing_call_frees_the_device_and_reaches_its_caller() -> None:
    scheduler = Scheduler()
    with pytest.raises(ZeroDivisionError):
        scheduler.run(lambda: 1 / 0, Terms(Priority.BULK))
    assert scheduler.run(lambda: "next", Terms(Priority.BULK)) == "next"


def test_one_caller_too_many_is_told_so_at_once() -> None:
    scheduler = Scheduler(max_waiting=1)
    with HeldDevice(scheduler):
        waiting = threading.Thread(target=scheduler.run, args=(lambda: None, Terms(Priority.BULK)))
        waiting.start()
        wait_until_waiting(scheduler, 1)
        with pytest.raises(ModelBusy, match="Try again"):
            scheduler.run(lambda: None, Terms(Priority.INTERACTIVE))
    waiting.join(10)


def test_a_call_nobody_wants_any_more_is_not_made() -> None:
    scheduler = Scheduler()
    with pytest.raises(Superseded):
        scheduler.run(lambda: pytest.fail("called"), Terms(is_wanted=lambda: False))
    assert scheduler.run(lambda: "next", Terms()) == "next"


def test_a_waiting_call_that_a_newer_one_replaces_is_sent_away_while_the_device_is_still_busy() -> None:
    scheduler, wanted, told, ran = Scheduler(max_waiting=1), [True], [], []

    def ask() -> None:
        with pytest.raises(Superseded) as fault:
            scheduler.run(lambda: pytest.fail("called"), Terms(is_wanted=lambda: wanted[0]))
        told.append(fault.value)

    older = threading.Thread(target=ask)
    newer = threading.Thread(target=scheduler.run, args=(lambda: ran.append("newer"), Terms()))
    with HeldDevice(scheduler):
        older.start()
        wait_until_waiting(scheduler, 1)
        wanted[0] = False
        newer.start()  # and it is let in: the older one has left the only place
        older.join(10)
        assert (len(told), ran) == (1, [])
    newer.join(10)
    assert ran == ["newer"]


def test_a_shared_call_gives_up_once_nobody_waits_for_it_any_more() -> None:
    scheduler, terms = Scheduler(), SharedTerms(Terms(deadline=time.monotonic() + 0.02))
    terms.join(SharedTerms(Terms(deadline=time.monotonic() + 0.04)))
    with HeldDevice(scheduler), pytest.raises(ModelBusy, match="too busy"):
        scheduler.run(lambda: pytest.fail("called"), terms)


@pytest.mark.parametrize(("one", "other", "shared_by_both"), [(1, 2, 2), (2, 1, 2), (1, None, None), (None, 1, None)])
def test_whoever_waits_longest_says_how_long_a_shared_call_may_wait(
    one: float | None, other: float | None, shared_by_both: float | None
) -> None:
    terms = SharedTerms(Terms(deadline=one))
    terms.join(SharedTerms(Terms(deadline=other)))
    assert terms.deadline == shared_by_both


class JoinedMeanwhile(SharedTerms):
    """Terms that somebody without a deadline joins while the first one's passes."""

    reads = 0

    @property
    def deadline(self) -> float | None:
        self.reads += 1
        return time.monotonic() + 0.02 if self.reads == 1 else None


def test_a_shared_call_waits_on_for_somebody_who_waits_longer() -> None:
    scheduler, terms = Scheduler(), JoinedMeanwhile(Terms())
    queue = Queue(scheduler)
    with HeldDevice(scheduler):
        queue.add("shared", terms)
        deadline = time.monotonic() + 10
        while terms.reads < 3:  # when it began to wait, when that was over, and for how long to wait on
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert scheduler.waiting == 1
    assert queue.join() == ["shared"]


def test_a_call_whose_turn_does_not_come_in_time_gives_up_and_leaves_no_trace() -> None:
    scheduler = Scheduler()
    with HeldDevice(scheduler):
        with pytest.raises(ModelBusy, match="too busy"):
            scheduler.run(lambda: pytest.fail("called"), Terms(deadline=time.monotonic() + 0.02))
        assert scheduler.waiting == 0
    assert scheduler.run(lambda: "next", Terms()) == "next"


def test_as_many_calls_run_at_a_time_as_the_device_gains_from() -> None:
    scheduler, together = Scheduler(at_once=2), threading.Barrier(3)
    threads = [threading.Thread(target=scheduler.run, args=(lambda: together.wait(10), Terms())) for _ in range(2)]
    for thread in threads:
        thread.start()
    together.wait(10)  # both calls are in it, or this fails
    for thread in threads:
        thread.join(10)


class Passes:
    """Doubles numbers, and records which went together; fails on negative ones."""

    def __init__(self, most: int) -> None:
        self.made: list[list[int]] = []
        self.kind: Together[int, int] = Together(self._answer, lambda: most)

    def _answer(self, numbers: list[int]) -> list[int]:
        self.made.append(list(numbers))
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * each for each in numbers]


class Asked:
    """Items that wait behind a held device, each in a thread of its own, and what became of them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._threads: list[threading.Thread] = []
        self.answers: dict[int, object] = {}

    def add(self, passes: Passes, number: int, terms: Terms) -> None:
        """Let an item queue up; returns once it waits."""
        waiting = self._scheduler.waiting
        self._threads.append(threading.Thread(target=self._ask, args=(passes, number, terms)))
        self._threads[-1].start()
        wait_until_waiting(self._scheduler, waiting + 1)

    def _ask(self, passes: Passes, number: int, terms: Terms) -> None:
        try:
            self.answers[number] = self._scheduler.run_together(passes.kind, number, terms)
        except (ValueError, Superseded) as fault:
            self.answers[number] = type(fault)

    def join(self) -> dict[int, object]:
        """The answers, once all are there."""
        for thread in self._threads:
            thread.join(10)
        return self.answers


def test_waiting_items_of_one_kind_go_together_and_each_gets_its_own_answer() -> None:
    scheduler, passes = Scheduler(), Passes(most=2)
    asked = Asked(scheduler)
    with HeldDevice(scheduler):
        for number in (1, 2, 3):
            asked.add(passes, number, Terms(Priority.BULK))
    assert asked.join() == {1: 2, 2: 4, 3: 6}
    assert passes.made == [[1, 2], [3]]


def test_items_of_another_kind_or_urgency_do_not_go_along() -> None:
    scheduler, passes, others = Scheduler(), Passes(most=8), Passes(most=8)
    asked = Asked(scheduler)
    with HeldDevice(scheduler):
        asked.add(passes, 1, Terms(Priority.BULK))
        asked.add(others, 2, Terms(Priority.BULK))
        asked.add(passes, 3, Terms(Priority.WARM))
        asked.add(passes, 4, Terms(Priority.BULK))
        asked.add(passes, 5, Terms(Priority.INTERACTIVE))
    asked.join()
    assert passes.made == [[5], [1, 4], [3]]
    assert others.made == [[2]]


def test_one_item_s_fault_is_not_the_others() -> None:
    scheduler, passes = Scheduler(), Passes(most=3)
    asked = Asked(scheduler)
    with HeldDevice(scheduler):
        for number in (1, -2, 3):
            asked.add(passes, number, Terms(Priority.BULK))
    assert asked.join() == {1: 2, -2: ValueError, 3: 6}
    assert passes.made == [[1, -2, 3], [1], [-2], [3]]


def test_an_item_nobody_wants_any_more_does_not_go_along() -> None:
    scheduler, passes, wanted = Scheduler(), Passes(most=3), [True]
    asked = Asked(scheduler)
    with HeldDevice(scheduler):
        asked.add(passes, 1, Terms())
        asked.add(passes, 2, Terms(is_wanted=lambda: wanted[0]))
        wanted[0] = False
    assert asked.join() == {1: 2, 2: Superseded}
    assert passes.made == [[1]]
