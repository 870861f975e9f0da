from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from sam3_backend.bulk.journal import Journal
from sam3_backend.bulk.work import Done, FoundObject, Task
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = [Task(number, {"image": f"{number}.png"}) for number in (3, 5, 8)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite3"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path, "http://ls/projects/1", "v1")
    opened.list_tasks(TASKS, held={5})
    yield opened
    opened.close()


def test_tasks_wait_in_the_order_of_their_numbers_with_their_data(journal: Journal):
    assert list(journal.waiting()) == [TASKS[0], TASKS[2]]
    assert journal.counts() == {"waiting": 2, "held": 1}


def test_what_was_announced_is_known_to_the_next_process(journal: Journal, path: Path):
    journal.sending([3])
    journal.close()
    again = Journal(path, "http://ls/projects/1", "v1")
    assert list(again.left_sending()) == [3]
    assert list(again.waiting()) == [TASKS[2]]
    again.close()


def test_another_version_or_project_is_another_run(journal: Journal, path: Path):
    journal.listed("all")
    journal.close()
    for place, version in (("http://ls/projects/1", "v2"), ("http://ls/projects/2", "v1")):
        other = Journal(path, place, version)
        assert (other.selection, other.counts()) == (None, {})
        other.close()


def test_two_processes_cannot_share_a_journal(journal: Journal, path: Path):
    with pytest.raises(BackendError, match="Another process"):
        Journal(path, "http://ls/projects/1", "v1")


def test_a_file_that_is_no_journal_is_left_alone(path: Path):
    path.write_text("a shopping list, long enough to be looked at\n" * 20)
    with pytest.raises(BackendError, match="is no journal"):
        Journal(path, "somewhere", "v1")
    assert path.read_text().startswith("a shopping list")


def test_what_was_written_stays_written_when_it_is_listed_again(journal: Journal):
    journal.written([Done(TASKS[0], {}, (FoundObject("car", 0.9, 0.1),), 0.5)])
    journal.list_tasks(TASKS, held={3, 5})
    assert journal.counts() == {"written": 1, "waiting": 1, "held": 1}


def test_what_label_studio_has_lost_waits_again(journal: Journal):
    journal.written([Done(TASKS[0], {})])
    journal.list_tasks(TASKS, held={5})
    assert [task.number for task in journal.waiting()] == [3, 8]


def test_what_failed_stays_so_until_it_is_asked_for(journal: Journal):
    journal.failed(3, "image_unreachable", "Its host sleeps.")
    journal.list_tasks(TASKS, held={5})
    assert list(journal.failures()) == [(3, "image_unreachable", "Its host sleeps.")]
    assert journal.wait_again() == 1
    assert [task.number for task in journal.waiting()] == [3, 8]
    assert not list(journal.failures())


def test_a_fault_in_the_middle_of_a_chunk_undoes_all_of_it(journal: Journal):
    bad = Done(TASKS[2], {}, (FoundObject("car", 0.9, None),))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        journal.written([Done(TASKS[0], {}), bad])
    assert journal.counts()["waiting"] == 2
