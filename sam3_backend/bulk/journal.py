"""What a bulk run has done so far, in a SQLite file, so that it goes on where it was killed.

A task is ``waiting``, then ``sending`` from before its chunk leaves until Label Studio has answered, then ``written``;
or it was ``held`` before, or it ``failed``. Found ``sending`` by the next process, its fate is unknown: who opens the
journal asks Label Studio. Knows no network; one process at a time.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from sam3_backend.bulk.work import Task
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sam3_backend.bulk.work import Done

REVISION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
  run INTEGER PRIMARY KEY, place TEXT NOT NULL, version TEXT NOT NULL, selection TEXT, UNIQUE (place, version));
CREATE TABLE IF NOT EXISTS tasks (
  run INTEGER NOT NULL, number INTEGER NOT NULL, data TEXT NOT NULL, state TEXT NOT NULL, code TEXT, message TEXT,
  took_s REAL, sent_at_s REAL, is_unsettled INTEGER NOT NULL DEFAULT 0, prediction TEXT,
  PRIMARY KEY (run, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (run, state, number);
CREATE TABLE IF NOT EXISTS found (
  run INTEGER NOT NULL, number INTEGER NOT NULL, label TEXT NOT NULL, score REAL NOT NULL, area_share REAL NOT NULL);
CREATE INDEX IF NOT EXISTS found_by_task ON found (run, number);
CREATE VIEW IF NOT EXISTS found_written AS
  SELECT found.* FROM found JOIN tasks USING (run, number) WHERE tasks.state = 'written';
"""
_PAGE = 200


class Journal:
    """One run's part of a journal file. Safe to share between threads.

    Args:
        path: The file; made where there is none.
        place: What is worked on: Label Studio's address and the project, or the name of an input.
        version: The model version of its predictions: another one is another run.

    Raises:
        BackendError: Another process has the file open, or it is no journal.
    """

    def __init__(self, path: Path, place: str, version: str) -> None:
        self._lock = threading.RLock()
        self._guard = _guard(path)
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._open(place, version)
        except sqlite3.DatabaseError as fault:
            self.close()
            raise BackendError(f"{path} is no journal of this program: {fault}. Name another file.") from fault

    def _open(self, place: str, version: str) -> None:
        (revision,) = self._file.execute("PRAGMA user_version").fetchone()
        if revision not in {0, REVISION}:
            raise sqlite3.DatabaseError(f"it is of revision {revision}, not {REVISION}")
        # A chunk that was announced must be known to have been, even after the machine itself went down.
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.executescript(_TABLES)
        self._file.execute(f"PRAGMA user_version = {REVISION}")
        self._file.execute("INSERT OR IGNORE INTO runs (place, version) VALUES (?, ?)", (place, version))
        found = self._file.execute("SELECT run FROM runs WHERE place = ? AND version = ?", (place, version))
        (self._run,) = found.fetchone()

    @property
    def selection(self) -> str | None:
        """The selection whose tasks are all listed here; None before they are."""
        (selection,) = self._one("SELECT selection FROM runs WHERE run = ?")
        return None if selection is None else str(selection)

    def forget_waiting(self) -> None:
        """Begin a new list: what is waiting is dropped, what was done is kept."""
        with self._all_or_nothing():
            self._file.execute("UPDATE runs SET selection = NULL WHERE run = ?", (self._run,))
            self._file.execute("DELETE FROM tasks WHERE run = ? AND state = 'waiting'", (self._run,))

    def list_tasks(self, tasks: Iterable[Task], held: set[int]) -> None:
        """Add tasks to the list.

        Args:
            tasks: The tasks.
            held: Numbers of those that hold their prediction already. One that was written and holds it no more waits
                again; one that failed stays so.
        """
        with self._all_or_nothing():
            for task in tasks:
                state = "held" if task.number in held else "waiting"
                self._file.execute(
                    "INSERT INTO tasks (run, number, data, state) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "data = excluded.data, state = CASE WHEN state = 'failed' AND excluded.state = 'waiting' "
                    "THEN state WHEN state = 'written' AND excluded.state = 'held' THEN state ELSE excluded.state END",
                    (self._run, task.number, json.dumps(task.data), state),
                )

    def listed(self, selection: str) -> None:
        """All tasks of a selection are in the list."""
        self._file.execute("UPDATE runs SET selection = ? WHERE run = ?", (selection, self._run))

    def wait_again(self, numbers: Sequence[int] | None = None) -> int:
        """Let failed tasks wait again.

        Args:
            numbers: Which; None for all.

        Returns:
            How many.
        """
        with self._lock:
            if numbers is None:
                moved = self._file.execute(
                    "UPDATE tasks SET state = 'waiting', code = NULL, message = NULL "
                    "WHERE run = ? AND state = 'failed'",
                    (self._run,),
                )
                return moved.rowcount
            self._each("UPDATE tasks SET state = 'waiting' WHERE run = ? AND number = ?", numbers)
            return len(numbers)

    def waiting(self) -> Iterator[Task]:
        """The tasks that wait, by their numbers."""
        last = -1
        while True:
            page = self.select(
                "SELECT number, data FROM tasks WHERE run = ? AND state = 'waiting' AND number > ? "
                "ORDER BY number LIMIT ?",
                *(last, _PAGE),
            )
            for number, data in page:
                yield Task(number, json.loads(data))
            if len(page) < _PAGE:
                return
            last = page[-1][0]

    def sending(self, chunk: Sequence[Done]) -> None:
        """A chunk is about to leave."""
        with self._all_or_nothing():
            for each in chunk:
                self._record(each)
                self._file.execute(
                    "UPDATE tasks SET state = 'sending', sent_at_s = ? WHERE run = ? AND number = ?",
                    (time.time(), self._run, each.task.number),
                )

    def left_sending(self) -> dict[int, float]:
        """Tasks whose fate is unknown: number to when they were sent, seconds since the epoch."""
        return dict(self.select("SELECT number, sent_at_s FROM tasks WHERE run = ? AND state = 'sending'"))

    def written(self, numbers: Iterable[int]) -> None:
        """What was sent is there."""
        self._each("UPDATE tasks SET state = 'written' WHERE run = ? AND number = ?", numbers)

    def keep(self, chunk: Sequence[Done]) -> None:
        """Keep predictions in this file, where they then belong."""
        with self._all_or_nothing():
            for each in chunk:
                self._record(each)
                self._file.execute(
                    "UPDATE tasks SET state = 'written', prediction = ? WHERE run = ? AND number = ?",
                    (json.dumps(each.prediction), self._run, each.task.number),
                )

    def failed(self, number: int, code: str, message: str) -> None:
        """A task has no prediction, and why."""
        with self._lock:
            self._file.execute(
                "UPDATE tasks SET state = 'failed', code = ?, message = ? WHERE run = ? AND number = ?",
                (code, message, self._run, number),
            )

    def unsettle(self, numbers: Sequence[int]) -> None:
        """These were sent with an unknown outcome and may be stored twice in the end."""
        self._each("UPDATE tasks SET is_unsettled = 1 WHERE run = ? AND number = ?", numbers)

    def unsettled(self) -> dict[int, float]:
        """Tasks that may be stored twice: number to when they were sent last, seconds since the epoch."""
        return dict(self.select("SELECT number, sent_at_s FROM tasks WHERE run = ? AND is_unsettled = 1"))

    def settled(self, numbers: Sequence[int]) -> None:
        """These are stored once."""
        self._each("UPDATE tasks SET is_unsettled = 0 WHERE run = ? AND number = ?", numbers)

    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return dict(self.select("SELECT state, COUNT(*) FROM tasks WHERE run = ? GROUP BY state"))

    def failures(self) -> Iterator[tuple[Task, str, str]]:
        """Each task that failed, the fault's code and its message."""
        query = "SELECT number, data, code, message FROM tasks WHERE run = ? AND state = 'failed' ORDER BY number"
        for number, data, code, message in self.select(query):
            yield Task(number, json.loads(data)), code, message

    def kept(self, numbers: Sequence[int]) -> set[int]:
        """Which of these tasks have their prediction in this file."""
        return {number for number in numbers if self.prediction(number) is not None}

    def prediction(self, number: int) -> dict[str, Any] | None:
        """A task's prediction, where it is kept in this file."""
        rows = self.select("SELECT prediction FROM tasks WHERE run = ? AND number = ?", number)
        kept: dict[str, Any] | None = json.loads(rows[0][0]) if rows and rows[0][0] else None
        return kept

    def tasks(self, numbers: Sequence[int]) -> list[Task]:
        """Tasks by their numbers."""
        query = "SELECT data FROM tasks WHERE run = ? AND number = ?"
        return [Task(number, json.loads(data)) for number in numbers for (data,) in self.select(query, number)]

    def select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives whose first place is for this run."""
        with self._lock:
            return self._file.execute(query, (self._run, *values)).fetchall()

    def close(self) -> None:
        """Let others have the file."""
        with self._lock:
            self._file.close()
            self._guard.close()

    def _record(self, done: Done) -> None:
        """Write down what was found, in place of what was found before."""
        key = (self._run, done.task.number)
        self._file.execute(
            "UPDATE tasks SET code = NULL, message = NULL, took_s = ? WHERE run = ? AND number = ?", (done.took_s, *key)
        )
        self._file.execute("DELETE FROM found WHERE run = ? AND number = ?", key)
        self._file.executemany(
            "INSERT INTO found VALUES (?, ?, ?, ?, ?)",
            [(*key, each.label, each.score, each.area_share) for each in done.found],
        )

    def _one(self, query: str) -> tuple[Any, ...]:
        return self.select(query)[0]

    def _each(self, command: str, numbers: Iterable[int]) -> None:
        with self._all_or_nothing():
            self._file.executemany(command, [(self._run, number) for number in numbers])

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")


def _guard(path: Path) -> TextIO:
    """What only one process can have open; the kernel releases it however that process ends."""
    try:
        guard = path.with_name(path.name + ".lock").open("w")
    except OSError as fault:
        raise BackendError(f"The journal {path} cannot be written: {fault.strerror}.") from fault
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        guard.close()
        raise BackendError(f"Another process is working with the journal {path}. Wait for it, or stop it.") from fault
    return guard
