from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sam3_backend.bulk.journal import Journal
from sam3_backend.bulk.work import Done, Task
from sam3_backend.bulk.writer import LATE_S, Writer
from sam3_backend.errors import LabelStudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


class FlakyStudio:
    """Stores predictions, and fails as told: ``faults`` are used up one per ``add``, before or after storing."""

    def __init__(self, *faults: tuple[str, int | None]) -> None:
        self.stored: Counter[int] = Counter()
        self.faults = list(faults)
        self.deleted: set[int] = set()
        self.adds = 0
        self.looked_at: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def holders(self, tasks: Sequence[int]) -> set[int]:
        return {task for task in tasks if self.stored[task]}

    def add(self, predictions: Mapping[int, Mapping[str, Any]]) -> int:
        self.adds += 1
        self.meanwhile()
        when, status = self.faults.pop(0) if self.faults else ("never", None)
        if when == "before":
            raise LabelStudioError("No.", status)
        if self.deleted & predictions.keys():
            raise LabelStudioError("There is no such task.", 400)
        fitting = [number for number, each in predictions.items() if each["result"] != ["odd"]]
        self.stored.update(fitting)
        if when == "after":
            raise LabelStudioError("No.", status)
        return len(fitting)

    def remove_copies(self, task: int) -> int:
        self.looked_at.append(task)
        copies = self.stored[task] - 1
        self.stored[task] = 1
        return copies


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "run.sqlite3", "here", "v1")
    opened.list_tasks([Task(number, {}) for number in range(8)], held=set())
    yield opened
    opened.close()


def done(*numbers: int, result: Any = ()) -> list[Done]:
    return [Done(Task(number, {}), {"result": list(result)}) for number in numbers]


def write(studio: FlakyStudio, journal: Journal, predictions: list[Done], chunk_tasks: int = 4) -> list[float]:
    slept: list[float] = []
    writer = Writer(studio, journal, chunk_tasks=chunk_tasks, sleep=slept.append)
    for each in predictions:
        writer.add(each)
    writer.close()
    return slept


def test_predictions_go_in_chunks(journal: Journal):
    studio = FlakyStudio()
    write(studio, journal, done(*range(8)))
    assert (studio.adds, set(studio.stored.values()), journal.counts()) == (2, {1}, {"written": 8})


def test_where_the_answer_got_lost_nothing_is_sent_twice(journal: Journal):
    studio = FlakyStudio(("after", None))
    write(studio, journal, done(*range(4)))
    assert (studio.adds, studio.stored) == (1, Counter(range(4)))
    assert journal.counts()["written"] == 4


@pytest.mark.parametrize("status", [None, 500, 502, 429])
def test_what_did_not_arrive_is_sent_again_after_a_while(journal: Journal, status: int | None):
    studio = FlakyStudio(("before", status), ("before", status))
    slept = write(studio, journal, done(*range(4)))
    assert (studio.adds, studio.stored, slept) == (3, Counter(range(4)), [1.0, 3.0])


def test_a_refusal_that_only_a_person_can_mend_ends_the_run_at_once(journal: Journal):
    studio = FlakyStudio(("before", 403))
    with pytest.raises(LabelStudioError):
        write(studio, journal, done(*range(4)))
    assert (studio.adds, journal.counts()["sending"]) == (1, 4)


def test_one_vanished_task_costs_no_other_one_its_prediction(journal: Journal):
    studio = FlakyStudio()
    studio.deleted = {2}
    write(studio, journal, done(*range(8)), chunk_tasks=8)
    assert studio.stored == Counter({0, 1, 3, 4, 5, 6, 7})
    assert [(task.number, *why) for task, *why in journal.failures()] == [(2, "refused", "There is no such task.")]


def test_what_label_studio_drops_silently_is_named(journal: Journal):
    studio = FlakyStudio()
    write(studio, journal, done(0, 1) + done(2, result=["odd"]) + done(3))
    assert [task.number for task, *_ in journal.failures()] == [2]
    assert journal.counts()["written"] == 3


def test_after_a_crash_label_studio_says_what_is_there(journal: Journal):
    studio = FlakyStudio()
    studio.stored.update([0, 1])
    journal.sending(done(*range(4)))
    assert Writer(studio, journal).reconcile() == 2
    assert journal.counts() == {"written": 2, "waiting": 6}


def test_what_arrives_late_after_a_crash_is_stored_once_in_the_end(journal: Journal):
    studio = FlakyStudio()
    journal.sending(done(0, 1))
    slept: list[float] = []
    writer = Writer(studio, journal, sleep=slept.append)
    writer.reconcile()
    late = iter([[0, 1]])  # the killed process's request, which arrives just before ours
    studio.meanwhile = lambda: studio.stored.update(next(late, []))
    for each in done(0, 1):
        writer.add(each)
    writer.close()
    assert studio.stored == Counter({0: 2, 1: 2})
    assert writer.settle() == 2
    assert studio.stored == Counter([0, 1])
    assert LATE_S - 5 < max(slept) <= LATE_S
    assert not journal.unsettled()


def test_what_was_sent_long_ago_cannot_arrive_any_more(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    journal.sending(done(0))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * LATE_S)
    Writer(FlakyStudio(), journal).reconcile()
    assert not journal.unsettled()


def test_what_another_run_stored_meanwhile_is_not_sent_again(journal: Journal):
    studio = FlakyStudio()
    studio.stored.update([1, 2, 5])
    write(studio, journal, done(*range(8)))
    assert (studio.stored, journal.counts()) == (Counter(range(8)), {"written": 8})


def test_what_two_runs_send_at_the_same_moment_stays_there_once(journal: Journal):
    studio = FlakyStudio()
    ahead = iter([[0, 1, 2, 3], [4, 5]])  # what the other run stores between our question and our chunk
    studio.meanwhile = lambda: studio.stored.update(next(ahead, []))
    writer = Writer(studio, journal, chunk_tasks=4, sleep=lambda _seconds: None)
    for each in done(*range(8)):
        writer.add(each)
    writer.close()
    writer.settle()
    assert studio.stored == Counter(range(8))


def test_a_run_that_is_alone_looks_at_one_task_of_each_chunk(journal: Journal):
    studio = FlakyStudio()
    writer = Writer(studio, journal, chunk_tasks=4)
    for each in done(*range(8)):
        writer.add(each)
    writer.close()
    assert (writer.settle(), studio.looked_at) == (0, [3, 7])


def test_an_annotator_who_opens_a_task_is_no_other_run(tmp_path: Path):
    opened = Journal(tmp_path / "another.sqlite3", "here", "v1")
    opened.list_tasks([Task(number, {}) for number in range(50)], held=set())
    studio = FlakyStudio()
    studio.stored.update([20])
    write(studio, opened, done(*range(50)), chunk_tasks=50)
    assert (studio.stored, opened.unsettled()) == (Counter(range(50)), {})
    opened.close()


def test_it_tells_how_many_were_written_and_only_when_some_were(journal: Journal):
    studio, told = FlakyStudio(), []
    studio.stored[1] = 1  # by an annotator who opened it
    writer = Writer(studio, journal, chunk_tasks=4, tell=told.append)
    for each in done(*range(8)):
        writer.add(each)
    writer.close()
    assert told == [1, 3, 4]
