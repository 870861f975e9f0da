"""Predictions into a file: kept in the journal while the run lasts, written out in the input's order at its end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Literal

from sam3_backend.bulk.coco import write_coco
from sam3_backend.errors import BackendError
from sam3_backend.label_studio.importable import importable_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import TextIO

    from sam3_backend.bulk.files import Entry
    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.work import Done

Format = Literal["label-studio", "coco"]
KEPT_AT_A_TIME = 50
KEPT_AFTER_S = 2.0


class JournalWriter:
    """Keeps predictions in the journal: what is in it was written once, whatever is killed.

    Args:
        journal: The run's.
        tell: Told how many predictions were kept, each time some were.
    """

    def __init__(self, journal: Journal, tell: Callable[[int], None] = lambda _kept: None) -> None:
        self._journal = journal
        self._tell = tell
        self._chunk: list[Done] = []
        self._kept_s = time.monotonic()

    def reconcile(self) -> int:
        """Nothing is ever in doubt."""
        return 0

    def add(self, done: Done) -> None:
        """Keep a prediction, now or with the next ones."""
        self._chunk.append(done)
        if len(self._chunk) >= KEPT_AT_A_TIME or time.monotonic() - self._kept_s > KEPT_AFTER_S:
            self.close()

    def close(self) -> None:
        """Keep what is left."""
        chunk, self._chunk = self._chunk, []
        self._journal.keep(chunk)
        self._tell(len(chunk))
        self._kept_s = time.monotonic()

    def abandon(self) -> None:
        """Keep what is left, too: it costs nothing."""
        self.close()

    def settle(self) -> int:
        """Nothing is kept twice."""
        return 0


def write_output(path: Path, kind: Format, entries: Callable[[], Iterable[Entry]], journal: Journal) -> None:
    """Write what the run came to; a file that was there is replaced when the new one is complete.

    Args:
        path: The file.
        kind: ``label-studio``, which it imports, or ``coco``.
        entries: Gives the input's tasks, each time it is called.
        journal: The run's.

    Raises:
        BackendError: The file cannot be written.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            if kind == "coco":
                write_coco(file, entries, journal)
            else:
                _write_tasks(file, entries(), journal)
        unfinished.replace(path)
    except OSError as fault:
        raise BackendError(f"{path} cannot be written: {fault.strerror}.") from fault


def _write_tasks(file: TextIO, entries: Iterable[Entry], journal: Journal) -> None:
    separator = "[\n"
    for entry in entries:
        kept: dict[str, Any] | None = journal.prediction(entry.task.number)
        file.write(separator + json.dumps(importable_task(entry.written, kept)))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")
