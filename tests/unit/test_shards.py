from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sam3_backend.bulk import shards as shards_module
from sam3_backend.bulk.file_output import ShardWriter
from sam3_backend.bulk.journal import Journal
from sam3_backend.bulk.shards import KeptPredictions, OwnShard, Shards, versions
from sam3_backend.bulk.statistics import read_statistics
from sam3_backend.bulk.work import Done, FoundObject, Task
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACE, VERSION = "http://ls/projects/1", "v1"


def done(number: int, result: str = "r") -> Done:
    task = Task(number, {"image": f"{number}.png"})
    return Done(task, {"result": [result], "model_version": VERSION}, (FoundObject("car", 0.5, 0.1),), 0.25)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return Shards.of(tmp_path / "shards", PLACE, VERSION)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "run.sqlite3", PLACE, VERSION)
    opened.list_tasks([done(number).task for number in range(6)], held=set())
    yield opened
    opened.close()


def kept_by_an_actor(shards: Shards, *numbers: int) -> list[Done]:
    own = OwnShard(shards)
    kept = own.keep([done(number) for number in numbers])
    own.close()
    return kept


def predictions(shards: Shards, journal: Journal) -> dict[int, list[str]]:
    with KeptPredictions(shards) as kept:
        places = {number: journal.kept(number) for number in range(6)}
        return {number: kept.prediction(place)["result"] for number, place in places.items() if place}


def test_a_prediction_is_found_at_its_place_and_travels_no_further(shards: Shards):
    first, second = kept_by_an_actor(shards, 3, 4)
    assert (first.prediction, first.found, first.took_s) == ({}, done(3).found, 0.25)
    assert first.kept is not None
    assert second.kept is not None
    with KeptPredictions(shards) as kept:
        assert kept.prediction(second.kept) == done(4).prediction
        assert kept.prediction(first.kept) == done(3).prediction


def test_a_line_is_what_the_documentation_says(shards: Shards):
    kept_by_an_actor(shards, 3)
    (name,) = shards.names()
    assert json.loads((shards.folder / name).read_text()) == {
        "number": 3,
        "data": {"image": "3.png"},
        "prediction": {"result": ["r"], "model_version": "v1"},
        "found": [{"label": "car", "score": 0.5, "area_share": 0.1}],
        "took_s": 0.25,
    }


def test_what_was_half_written_when_its_process_was_killed_is_not_there(shards: Shards):
    kept_by_an_actor(shards, 1, 2, 3)
    (name,) = shards.names()
    whole = (shards.folder / name).read_bytes()
    for cut in (1, 2, 40):
        (shards.folder / name).write_bytes(whole[:-cut])
        assert [each.task.number for each in shards.all()] == [1, 2]


def test_zeros_that_a_loss_of_power_left_are_no_line(shards: Shards):
    kept_by_an_actor(shards, 1, 2)
    (name,) = shards.names()
    whole = (shards.folder / name).read_bytes()
    end = whole.index(b"\n") + 1
    (shards.folder / name).write_bytes(whole[:end] + b"\0" * (len(whole) - end))
    assert [each.task.number for each in shards.all()] == [1]


def test_each_process_has_a_shard_of_its_own_and_leaves_it_when_it_has_grown(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 1)
    own, other = OwnShard(shards), OwnShard(shards)
    own.keep([done(1), done(2)])
    own.keep([done(3)])
    other.keep([done(4)])
    own.close()
    other.close()
    numbers = [[each.task.number for _, each in shards.read(name) if each] for name in shards.names()]
    assert sorted(numbers) == [[1, 2], [3], [4]]


def test_what_nobody_had_heard_of_when_the_run_was_killed_is_learned_from_the_shards(shards: Shards, journal: Journal):
    heard = kept_by_an_actor(shards, 0, 1)
    journal.keep(heard)
    kept_by_an_actor(shards, 2, 3)
    assert ShardWriter(journal, shards).reconcile() == 0
    assert journal.counts() == {"written": 4, "waiting": 2}
    assert predictions(shards, journal) == {number: ["r"] for number in range(4)}
    assert read_statistics(journal).labels[0].objects == 4


def test_what_the_shards_have_lost_is_predicted_again(shards: Shards, journal: Journal):
    journal.keep(kept_by_an_actor(shards, 0, 1))
    (cut,) = shards.names()
    journal.keep(kept_by_an_actor(shards, 2))
    (removed,) = set(shards.names()) - {cut}
    whole = (shards.folder / cut).read_bytes()
    (shards.folder / cut).write_bytes(whole[:-5])
    (shards.folder / removed).unlink()
    assert ShardWriter(journal, shards).reconcile() == 2
    assert journal.counts() == {"written": 1, "waiting": 5}


def test_a_task_that_two_processes_predicted_is_there_once(shards: Shards, journal: Journal):
    journal.keep(kept_by_an_actor(shards, 0))
    own = OwnShard(shards)
    own.keep([done(0, "again"), done(1)])
    own.close()
    for _ in range(2):
        ShardWriter(journal, shards).reconcile()
        assert predictions(shards, journal) == {0: ["r"], 1: ["r"]}
    assert sorted(each.task.number for each in shards.outcomes([Task(0, {}), Task(1, {})])) == [0, 1]


def test_predictions_that_come_without_a_place_get_one(shards: Shards, journal: Journal):
    told: list[int] = []
    writer = ShardWriter(journal, shards, told.append)
    writer.add(done(1))
    (elsewhere,) = kept_by_an_actor(shards, 2)
    writer.add(elsewhere)
    writer.close()
    assert (predictions(shards, journal), sum(told)) == ({1: ["r"], 2: ["r"]}, 2)


def test_a_folder_that_cannot_be_written_ends_the_run_and_says_which(tmp_path: Path, journal: Journal):
    (tmp_path / "file").touch()
    writer = ShardWriter(journal, Shards.of(tmp_path / "file", PLACE, VERSION))
    writer.add(done(1))
    with pytest.raises(BackendError, match=r"file/.* cannot be written: "):
        writer.close()
    assert journal.counts() == {"waiting": 6}


def test_a_prediction_that_vanished_is_named(shards: Shards):
    (kept,) = kept_by_an_actor(shards, 1)
    assert kept.kept is not None
    (shards.folder / kept.kept.shard).write_bytes(b"")
    with KeptPredictions(shards) as files, pytest.raises(BackendError, match="has lost a prediction at byte 0"):
        files.prediction(kept.kept)


def test_shards_know_their_project_and_their_version(shards: Shards):
    kept_by_an_actor(shards, 1)
    kept_by_an_actor(Shards.of(shards.folder, "http://ls/projects/2", VERSION), 2)
    (shards.folder / "notes.jsonl").write_text("not ours\n")
    assert versions(shards.folder, PLACE) == {VERSION: shards}
    assert [each.task.number for each in shards.all()] == [1]
    assert versions(shards.folder, "http://ls/projects/3") == {}
