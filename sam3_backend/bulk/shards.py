"""Predictions in files of lines: each process of a run adds to a shard of its own, and to no other's.

A line is there once its end is: what a killed process left half-written is none. Where a process was lost with
predictions that nobody had heard of yet, their tasks are predicted again and have two lines; whoever reads takes one.
Lines are JSON: ``number`` and ``data`` of the task, its ``prediction``, what was ``found`` in it, and ``took_s``.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from sam3_backend.bulk.only_one import run_fingerprint
from sam3_backend.bulk.work import Done, FoundObject, Kept, Task
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO, Self

SHARD_BYTES = 256 * 1024**2
"""A shard that has grown to this is left, and another begun."""
MOST_OPEN = 64
SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of one run.

    Attributes:
        folder: Where they are; other runs' may be there, too.
        run: What their names begin with.
    """

    folder: Path
    run: str

    @classmethod
    def of(cls, folder: Path, place: str, version: str) -> Shards:
        """Those of a run.

        Args:
            folder: Where they are.
            place: What is worked on, as the journal calls it.
            version: Model version of the predictions.
        """
        return cls(folder.absolute(), run_fingerprint(place, version))

    def names(self) -> list[str]:
        """The shards that are there."""
        return sorted(path.name for path in self.folder.glob(f"{self.run}-*{SUFFIX}"))

    def read(self, shard: str, known: Container[int] = ()) -> Iterator[tuple[int, Done | None]]:
        """The lines of a shard.

        Args:
            shard: Its name.
            known: Bytes at which lines begin that need not be looked into.

        Yields:
            The byte at which a line begins; and what it says, with its place, where that was not known.

        Raises:
            BackendError: It cannot be read.
        """
        at_byte = 0
        try:
            with (self.folder / shard).open("rb") as file:
                for line in file:
                    if is_whole(line):
                        yield at_byte, None if at_byte in known else _done(line, Kept(shard, at_byte))
                    at_byte += len(line)
        except FileNotFoundError:
            return
        except OSError as fault:
            raise BackendError(f"{self.folder / shard} cannot be read: {fault.strerror}.") from fault

    def all(self) -> Iterator[Done]:
        """Every line of every shard; a task may have several."""
        for shard in self.names():
            for _, done in self.read(shard):
                if done is not None:
                    yield done

    def outcomes(self, tasks: Iterable[Task]) -> Generator[Done]:
        """The predictions of these tasks that are there, each once, in the order of the shards."""
        wanted = {task.number for task in tasks}
        for done in self.all():
            if done.task.number in wanted:
                wanted.discard(done.task.number)
                yield replace(done, kept=None)


class OwnShard:
    """A process's own shard, made with its first prediction. For one thread.

    Args:
        shards: Those of the run.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._file: BinaryIO | None = None
        self._name = ""

    def keep(self, chunk: Sequence[Done]) -> list[Done]:
        """Add predictions; they are on the disk when this returns.

        Returns:
            The same tasks, each with the place of its prediction instead of the prediction.

        Raises:
            BackendError: They cannot be written. What is half-written is no line, and another shard is begun next.
        """
        if not chunk:
            return []
        kept = []
        try:
            file = self._open()
            at_byte = file.tell()
            for each in chunk:
                line = _line(each)
                file.write(line)
                kept.append(replace(each, prediction={}, kept=Kept(self._name, at_byte)))
                at_byte += len(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError as fault:
            path, self._file = self._shards.folder / self._name, None
            raise BackendError(f"{path} cannot be written: {fault.strerror}. Make room, and go on.") from fault
        return kept

    def _open(self) -> BinaryIO:
        if self._file is not None and self._file.tell() < SHARD_BYTES:
            return self._file
        if self._file is not None:
            self._file.close()
        self._name = f"{self._shards.run}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        self._shards.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self._shards.folder / self._name).open("xb")
        return self._file

    def close(self) -> None:
        """Add nothing more."""
        if self._file is not None:
            self._file.close()
            self._file = None


class KeptPredictions:
    """Predictions by their places, in any order. Use in a ``with`` block.

    Args:
        shards: Those of the run.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._open: dict[str, BinaryIO] = {}

    def prediction(self, kept: Kept) -> dict[str, Any]:
        """The prediction at a place.

        Raises:
            BackendError: It is not there any more.
        """
        path = self._shards.folder / kept.shard
        try:
            if kept.shard not in self._open:
                if len(self._open) >= MOST_OPEN:
                    self._close()
                self._open[kept.shard] = path.open("rb")
            file = self._open[kept.shard]
            file.seek(kept.at_byte)
            prediction: dict[str, Any] = json.loads(file.readline())["prediction"]
        except (OSError, ValueError) as fault:
            raise BackendError(
                f"{path} has lost a prediction at byte {kept.at_byte}: {fault}. The same command predicts it again."
            ) from fault
        return prediction

    def _close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def is_whole(line: bytes) -> bool:
    """Whether a line was written to its end; a machine that loses power may leave zeros."""
    return line.endswith(b"}\n") and line.startswith(b"{")


def versions(folder: Path, place: str) -> dict[str, Shards]:
    """The runs at a place whose shards are in a folder, by the model version of their predictions.

    Args:
        folder: Where to look.
        place: What was worked on, as the journal calls it.

    Raises:
        BackendError: A shard cannot be read.
    """
    found: dict[str, Shards] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        for _, done in Shards(folder.absolute(), path.name.partition("-")[0]).read(path.name):
            if done is not None:
                version = str(done.prediction.get("model_version", ""))
                shards = Shards.of(folder, place, version)
                if path.name.startswith(f"{shards.run}-"):
                    found[version] = shards
                break
    return found


def _line(done: Done) -> bytes:
    written = {
        "number": done.task.number,
        "data": done.task.data,
        "prediction": done.prediction,
        "found": [asdict(each) for each in done.found],
        "took_s": round(done.took_s, 6),
    }
    return json.dumps(written).encode() + b"\n"


def _done(line: bytes, kept: Kept) -> Done | None:
    """What a line says; None where it is none of ours."""
    try:
        said = json.loads(line)
        found = tuple(FoundObject(**each) for each in said["found"])
        return Done(Task(int(said["number"]), said["data"]), said["prediction"], found, said["took_s"], kept)
    except (ValueError, KeyError, TypeError):
        return None
