"""The file of a journal: SQLite, opened by one process at a time, changed all or not at all."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sam3_backend.bulk.only_one import hold
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

REVISION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
  run INTEGER PRIMARY KEY, place TEXT NOT NULL, version TEXT NOT NULL, selection TEXT, UNIQUE (place, version));
CREATE TABLE IF NOT EXISTS tasks (
  run INTEGER NOT NULL, number INTEGER NOT NULL, data TEXT NOT NULL, state TEXT NOT NULL, code TEXT, message TEXT,
  took_s REAL, sent_at_s REAL, is_unsettled INTEGER NOT NULL DEFAULT 0, shard TEXT, at_byte INTEGER,
  PRIMARY KEY (run, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (run, state, number);
CREATE INDEX IF NOT EXISTS tasks_by_shard ON tasks (run, shard, at_byte) WHERE shard IS NOT NULL;
CREATE INDEX IF NOT EXISTS tasks_unsettled ON tasks (run, number) WHERE is_unsettled = 1;
CREATE TABLE IF NOT EXISTS found (
  run INTEGER NOT NULL, number INTEGER NOT NULL, label TEXT NOT NULL, score REAL NOT NULL, area_share REAL NOT NULL);
CREATE INDEX IF NOT EXISTS found_by_task ON found (run, number);
CREATE VIEW IF NOT EXISTS found_written AS
  SELECT found.* FROM found JOIN tasks USING (run, number) WHERE tasks.state = 'written';
"""


class JournalFile:
    """An open file. Safe to share between threads.

    Args:
        path: The file; made where there is none.

    Raises:
        BackendError: Another process has the file open, or it is no journal.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        said = f"Another process is working with the journal {path}. Wait for it, or stop it."
        self._guard = hold(path.with_name(path.name + ".lock"), said)
        try:
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except sqlite3.OperationalError as fault:
            self._guard.close()
            raise BackendError(f"The journal {path} cannot be opened: {fault}.") from fault
        try:
            self._make_tables()
        except sqlite3.DatabaseError as fault:
            self.close()
            raise BackendError(f"{path} is no journal of this program: {fault}. Name another file.") from fault

    def _make_tables(self) -> None:
        (revision,) = self._file.execute("PRAGMA user_version").fetchone()
        if revision not in {0, REVISION}:
            raise sqlite3.DatabaseError(f"it is of revision {revision}, not {REVISION}")
        # A chunk that was announced must be known to have been, even after the machine itself went down.
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.executescript(_TABLES)
        self._file.execute(f"PRAGMA user_version = {REVISION}")

    def run(self, place: str, version: str) -> int:
        """The key of the run with this place and version, which is added where it is new."""
        with self._lock:
            self._file.execute("INSERT OR IGNORE INTO runs (place, version) VALUES (?, ?)", (place, version))
            found = self._file.execute("SELECT run FROM runs WHERE place = ? AND version = ?", (place, version))
            return int(found.fetchone()[0])

    def select(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows that a query gives."""
        with self._lock:
            return self._file.execute(query, values).fetchall()

    def change(self, command: str, values: Sequence[object]) -> int:
        """Carry a command out; how many rows it changed."""
        with self._lock:
            return self._file.execute(command, values).rowcount

    def change_each(self, command: str, rows: Iterable[Sequence[object]]) -> None:
        """Carry a command out for each of some rows of values, for all of them or for none."""
        with self.all_or_nothing():
            self._file.executemany(command, rows)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is changed inside is changed as one, also where it is entered inside itself."""
        with self._lock:
            if self._file.in_transaction:
                yield
                return
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def close(self) -> None:
        """Let others have the file."""
        with self._lock:
            self._file.close()
            self._guard.close()
