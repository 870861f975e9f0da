"""What a bulk run has done so far, in a SQLite file, so that it goes on where it was killed.

A task is ``waiting``, then ``sending`` from before its chunk leaves until Label Studio has answered, then ``written``;
or it was ``held`` before, or it ``failed``. Found ``sending`` by the next process, its fate is unknown: who opens the
journal asks Label Studio. Where predictions go into shards, it says in which and where. Knows no network.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sam3_backend.bulk.journal_file import JournalFile
from sam3_backend.bulk.work import Kept, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sam3_backend.bulk.work import Done

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
        self._file = JournalFile(path)
        self._run = self._file.run(place, version)

    @property
    def selection(self) -> str | None:
        """The selection whose tasks are all listed here; None before they are."""
        (selection,) = self.select("SELECT selection FROM runs WHERE run = ?")[0]
        return None if selection is None else str(selection)

    def forget_waiting(self) -> None:
        """Begin a new list: what is waiting is dropped, what was done is kept."""
        with self._file.all_or_nothing():
            self._file.change("UPDATE runs SET selection = NULL WHERE run = ?", (self._run,))
            self._file.change("DELETE FROM tasks WHERE run = ? AND state = 'waiting'", (self._run,))

    def list_tasks(self, tasks: Iterable[Task], held: set[int]) -> None:
        """Add tasks to the list.

        Args:
            tasks: The tasks.
            held: Numbers of those that hold their prediction already. One that was written and holds it no more waits
                again; one that failed stays so.
        """
        with self._file.all_or_nothing():
            for task in tasks:
                state = "held" if task.number in held else "waiting"
                self._file.change(
                    "INSERT INTO tasks (run, number, data, state) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "data = excluded.data, state = CASE WHEN state = 'failed' AND excluded.state = 'waiting' "
                    "THEN state WHEN state = 'written' AND excluded.state = 'held' THEN state ELSE excluded.state END",
                    (self._run, task.number, json.dumps(task.data), state),
                )

    def listed(self, selection: str) -> None:
        """All tasks of a selection are in the list."""
        self._file.change("UPDATE runs SET selection = ? WHERE run = ?", (selection, self._run))

    def wait_again(self, numbers: Sequence[int] | None = None) -> int:
        """Let failed tasks wait again.

        Args:
            numbers: Which; None for all.

        Returns:
            How many.
        """
        if numbers is None:
            return self._file.change(
                "UPDATE tasks SET state = 'waiting', code = NULL, message = NULL WHERE run = ? AND state = 'failed'",
                (self._run,),
            )
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
        with self._file.all_or_nothing():
            for each in chunk:
                self._record(each)
                self._file.change(
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
        """Predictions lie in shards, of tasks that are listed here or are now."""
        with self._file.all_or_nothing():
            for each in chunk:
                place = (each.kept.shard, each.kept.at_byte) if each.kept else (None, None)
                self._file.change(
                    "INSERT INTO tasks (run, number, data, state, shard, at_byte) VALUES (?, ?, ?, 'written', ?, ?) "
                    "ON CONFLICT DO UPDATE SET state = 'written', shard = excluded.shard, at_byte = excluded.at_byte",
                    (self._run, each.task.number, json.dumps(each.task.data), *place),
                )
                self._record(each)

    def failed(self, number: int, code: str, message: str) -> None:
        """A task has no prediction, and why."""
        self._file.change(
            "UPDATE tasks SET state = 'failed', code = ?, message = ? WHERE run = ? AND number = ?",
            (code, message, self._run, number),
        )

    def unsettle_since(self, sent_at_s: float) -> None:
        """All that was sent since then, seconds since the epoch, may be stored twice in the end."""
        self._file.change(
            "UPDATE tasks SET is_unsettled = 1 WHERE run = ? AND state = 'written' AND sent_at_s >= ?",
            (self._run, sent_at_s),
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

    def kept(self, number: int) -> Kept | None:
        """Where a task's prediction lies in the run's shards; None where it is not in them."""
        rows = self.select("SELECT shard, at_byte FROM tasks WHERE run = ? AND number = ?", number)
        return Kept(*rows[0]) if rows and rows[0][0] is not None else None

    def keeps(self, numbers: Iterable[int]) -> set[int]:
        """Those of these tasks whose predictions lie in the run's shards."""
        return {number for number in numbers if self.kept(number) is not None}

    def shards(self) -> set[str]:
        """The shards that predictions lie in."""
        return {shard for (shard,) in self.select("SELECT DISTINCT shard FROM tasks WHERE run = ? AND shard NOT NULL")}

    def lines(self, shard: str) -> set[int]:
        """The bytes at which predictions begin in a shard."""
        return {at_byte for (at_byte,) in self.select("SELECT at_byte FROM tasks WHERE run = ? AND shard = ?", shard)}

    def lost(self, shard: str, lines: Iterable[int]) -> None:
        """What was in a shard at these bytes is not there any more: its tasks wait again."""
        self._file.change_each(
            "UPDATE tasks SET state = 'waiting', shard = NULL, at_byte = NULL "
            "WHERE run = ? AND shard = ? AND at_byte = ?",
            [(self._run, shard, at_byte) for at_byte in lines],
        )

    def tasks(self, numbers: Sequence[int]) -> list[Task]:
        """Tasks by their numbers."""
        query = "SELECT data FROM tasks WHERE run = ? AND number = ?"
        return [Task(number, json.loads(data)) for number in numbers for (data,) in self.select(query, number)]

    def select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives whose first place is for this run."""
        return self._file.select(query, (self._run, *values))

    def close(self) -> None:
        """Let others have the file."""
        self._file.close()

    def _record(self, done: Done) -> None:
        """Write down what was found, in place of what was found before."""
        key = (self._run, done.task.number)
        self._file.change(
            "UPDATE tasks SET code = NULL, message = NULL, took_s = ? WHERE run = ? AND number = ?", (done.took_s, *key)
        )
        self._file.change("DELETE FROM found WHERE run = ? AND number = ?", key)
        self._file.change_each(
            "INSERT INTO found VALUES (?, ?, ?, ?, ?)",
            [(*key, each.label, each.score, each.area_share) for each in done.found],
        )

    def _each(self, command: str, numbers: Iterable[int]) -> None:
        self._file.change_each(command, [(self._run, number) for number in numbers])
