from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from sam3_backend.bulk.journal import Journal
from sam3_backend.bulk.report import render_report
from sam3_backend.bulk.sample import Sample
from sam3_backend.bulk.statistics import LabelCount, read_statistics, spread_tasks
from sam3_backend.bulk.work import Done, FoundObject, Kept, Task
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
    journal.sending([Done(TASKS[0], {})])
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
    journal.sending([Done(TASKS[0], {})])
    journal.written([3])
    journal.list_tasks(TASKS, held={3, 5})
    assert journal.counts() == {"written": 1, "waiting": 1, "held": 1}


def test_what_label_studio_has_lost_waits_again(journal: Journal):
    journal.sending([Done(TASKS[0], {})])
    journal.written([3])
    journal.list_tasks(TASKS, held={5})
    assert [task.number for task in journal.waiting()] == [3, 8]


def test_what_failed_stays_so_until_it_is_asked_for(journal: Journal):
    journal.failed(3, "image_unreachable", "Its host sleeps.")
    journal.list_tasks(TASKS, held={5})
    assert list(journal.failures()) == [(TASKS[0], "image_unreachable", "Its host sleeps.")]
    assert journal.wait_again() == 1
    assert [task.number for task in journal.waiting()] == [3, 8]
    assert not list(journal.failures())


def test_a_fault_in_the_middle_of_a_chunk_undoes_all_of_it(journal: Journal):
    bad = Done(TASKS[2], {}, (FoundObject("car", 0.9, None),))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        journal.keep([Done(TASKS[0], {}), bad])
    assert journal.counts()["waiting"] == 2


def test_predictions_are_kept_where_that_is_where_they_belong(journal: Journal):
    place = Kept("a.jsonl", 70)
    journal.keep([Done(TASKS[0], {}, kept=place)])
    assert (journal.kept(3), journal.kept(8), journal.keeps([3, 5, 8])) == (place, None, {3})
    assert (journal.shards(), journal.lines("a.jsonl")) == ({"a.jsonl"}, {70})
    journal.lost("a.jsonl", [70])
    assert (journal.kept(3), journal.counts()["waiting"]) == (None, 2)


def test_statistics_count_what_is_written_and_count_it_once(journal: Journal):
    first = (FoundObject("car", 0.31, 0.2), FoundObject("car", 0.99, 0.00005))
    journal.sending([Done(TASKS[0], {}, first, 0.5), Done(TASKS[2], {}, (FoundObject("tree", 1.0, 1.0),), 0.7)])
    assert read_statistics(journal).labels == ()
    journal.written([3])
    journal.wait_again([8])
    journal.keep([Done(TASKS[0], {}, first, 0.6), Done(TASKS[2], {}, (), 0.1)])
    statistics = read_statistics(journal)
    assert statistics.labels == (LabelCount("car", 2, 1, pytest.approx(0.65)),)
    looked_for = read_statistics(journal, ["car", "tree"]).labels
    assert looked_for == (*statistics.labels, LabelCount("tree", 0, 0, None))
    assert [place for place, count in enumerate(statistics.scores) if count] == [6, 19]
    assert [place for place, count in enumerate(statistics.areas) if count] == [0, 7]
    assert (statistics.empty, statistics.slowest) == (1, ((3, 0.6), (8, 0.1)))
    assert [task.number for task in spread_tasks(journal, 4)] == [3]


def test_a_report_has_what_a_person_looks_at_before_trusting_it(journal: Journal):
    found = (FoundObject("car", 0.9, 0.1), FoundObject("car", 0.92, 0.002))
    journal.keep([Done(TASKS[0], {}, found, 0.53)])
    journal.failed(8, "image_unreachable", "Its host sleeps.")
    drawn = Sample(TASKS[0], "2 car", Image.new("RGB", (8, 8)))
    statistics = read_statistics(journal, ["car", "tree"])
    html = render_report("City", "v1", statistics, list(journal.failures()), [drawn], lambda task: f"name of {task}")
    parts = dict(re.findall(r"<h2>(.+?)</h2>\n(.+?)(?=<h2>|</body>)", html, re.DOTALL))
    assert list(parts) == ["Labels", "Scores", "Areas, in % of the picture", "Samples", "Slowest", "Failures"]
    assert re.sub("<.+?>", " ", parts["Labels"]).split()[-8:] == ["car", "2", "1", "0.91", "tree", "0", "0", "-"]
    assert bars(parts["Scores"]) == {"0.90": 1, "0.95": 1}
    assert bars(parts["Areas, in % of the picture"]) == {"0.3": 1, "10": 1}
    assert "data:image/jpeg;base64," in parts["Samples"]
    assert "2 car" in parts["Samples"]
    assert "name of 3" in parts["Slowest"]
    assert "0.53" in parts["Slowest"]
    assert "image_unreachable" in parts["Failures"]
    assert "Its host sleeps." in parts["Failures"]


def bars(part: str) -> dict[str, int]:
    """The bars of a histogram that are any: upper edge to count."""
    drawn, edges = part.split('<div class="edges">')
    counts = [int(count or 0) for count in re.findall(r"<span>(\d*)</span>", drawn)]
    named = re.findall(r"<span>(.+?)</span>", edges)
    return {edge: count for edge, count in zip(named, counts, strict=True) if count}


def test_a_report_shows_names_as_they_are_and_runs_nothing_in_them(journal: Journal):
    journal.keep([Done(TASKS[0], {}, (FoundObject("<script>", 0.9, 0.1),), 0.5)])
    journal.failed(8, "refused", "a < b")
    html = render_report(
        "a & b", "v1", read_statistics(journal), list(journal.failures()), [Sample(TASKS[0], "1 <b>")], str
    )
    assert "a &amp; b" in html
    assert "&lt;script&gt;" in html
    assert "a &lt; b" in html
    assert "<script" not in html
    assert "<b>" not in html
