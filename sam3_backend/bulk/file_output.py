"""Predictions into files: kept in shards while the run lasts, written out in the input's order at its end."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sam3_backend.bulk.coco import write_coco
from sam3_backend.bulk.shards import KeptPredictions, OwnShard
from sam3_backend.errors import BackendError
from sam3_backend.label_studio.importable import importable_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import TextIO

    from sam3_backend.bulk.files import Entry
    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.shards import Shards
    from sam3_backend.bulk.work import Done

Format = Literal["label-studio", "coco"]
KEPT_AT_A_TIME = 50
KEPT_AFTER_S = 2.0


class ShardWriter:
    """Writes down which predictions lie in shards, and keeps in one those that do not yet. The shards decide.

    Args:
        journal: The run's.
        shards: The run's.
        tell: Told how many predictions were kept, each time some were.
    """

    def __init__(self, journal: Journal, shards: Shards, tell: Callable[[int], None] = lambda _kept: None) -> None:
        self._journal = journal
        self._shards = shards
        self._own = OwnShard(shards)
        self._tell = tell
        self._chunk: list[Done] = []
        self._kept_s = time.monotonic()

    def reconcile(self) -> int:
        """Learn what lies in the shards, of which the journal may know too little, or too much.

        Returns:
            How many predictions must be made again.
        """
        lost = 0
        names = self._shards.names()
        for shard in sorted({*names, *self._journal.shards()}):
            known = self._journal.lines(shard)
            missing, fresh = set(known), []
            for at_byte, done in self._shards.read(shard, known):
                missing.discard(at_byte)
                if done is not None and self._journal.kept(done.task.number) is None:
                    fresh.append(replace(done, prediction={}))
                if len(fresh) == KEPT_AT_A_TIME:
                    self._journal.keep(fresh)
                    fresh = []
            self._journal.keep(fresh)
            self._journal.lost(shard, missing)
            lost += len(missing)
        return lost

    def add(self, done: Done) -> None:
        """Keep a prediction, now or with the next ones."""
        self._chunk.append(done)
        if len(self._chunk) >= KEPT_AT_A_TIME or time.monotonic() - self._kept_s > KEPT_AFTER_S:
            self._keep()

    def close(self) -> None:
        """Keep what is left."""
        try:
            self._keep()
        finally:
            self._own.close()

    def abandon(self) -> None:
        """Keep what is left, too: it costs nothing."""
        self.close()

    def settle(self) -> int:
        """Nothing is taken twice."""
        return 0

    def _keep(self) -> None:
        chunk, self._chunk = self._chunk, []
        kept = [each for each in chunk if each.kept is not None]
        self._journal.keep(kept + self._own.keep([each for each in chunk if each.kept is None]))
        self._tell(len(chunk))
        self._kept_s = time.monotonic()


def write_output(
    path: Path, kind: Format, entries: Callable[[], Iterable[Entry]], journal: Journal, shards: Shards
) -> None:
    """Write what the run came to; a file that was there is replaced when the new one is complete.

    Args:
        path: The file.
        kind: ``label-studio``, which it imports, or ``coco``.
        entries: Gives the input's tasks, each time it is called.
        journal: The run's: it says where each task's prediction is.
        shards: The run's, in which it is.

    Raises:
        BackendError: The file cannot be written, or a shard not be read.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file, KeptPredictions(shards) as kept:
            predictions = partial(_prediction, journal, kept)
            if kind == "coco":
                write_coco(file, entries, predictions)
            else:
                _write_tasks(file, entries(), predictions)
        unfinished.replace(path)
    except OSError as fault:
        raise BackendError(f"{path} cannot be written: {fault.strerror}.") from fault


def _prediction(journal: Journal, kept: KeptPredictions, number: int) -> dict[str, Any] | None:
    place = journal.kept(number)
    return None if place is None else kept.prediction(place)


def _write_tasks(file: TextIO, entries: Iterable[Entry], predictions: Callable[[int], dict[str, Any] | None]) -> None:
    separator = "[\n"
    for entry in entries:
        file.write(separator + json.dumps(importable_task(entry.written, predictions(entry.task.number))))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")
