"""Files as the source of a bulk run: a folder of pictures, a list of tasks, a manifest with one task a line."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sam3_backend.bulk.preannotate import Listing
from sam3_backend.bulk.work import Task
from sam3_backend.errors import InvalidRequest
from sam3_backend.images.local_files import file_location
from sam3_backend.label_studio.importable import read_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sam3_backend.images import PictureLocation
    from sam3_backend.label_studio.predictions import Locates

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PAGE = 500
_LABEL_STUDIO = ("/data/upload/", "/data/local-files/", "/tasks/")


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of an input.

    Attributes:
        task: What is worked on; its number is made from its data, so that it stays where others come and go.
        written: The task as the output has it.
        name: What to call its picture.
    """

    task: Task
    written: dict[str, Any]
    name: str


class FileTasks:
    """The tasks in an input.

    Args:
        path: A folder, or a file that ends in ``.json`` (a list) or ``.jsonl`` (one task a line).
        data_key: The field of the picture's address.
        url_prefix: What Label Studio finds a folder's pictures under.
        access: Finds pictures that are no files.
    """

    def __init__(self, path: Path, data_key: str, url_prefix: str, access: Locates) -> None:
        self._path = path
        self._data_key = data_key
        self._url_prefix = url_prefix
        self._access = access
        self._base = path if path.is_dir() else path.parent

    def entries(self) -> Iterator[Entry]:
        """All tasks, in the order of the input.

        Raises:
            InvalidRequest: The input cannot be read.
        """
        try:
            yield from self._pictures() if self._path.is_dir() else self._tasks()
        except OSError as fault:
            raise InvalidRequest(f"{self._path} cannot be read: {fault.strerror}.") from fault
        except ValueError as fault:
            raise InvalidRequest(f"{self._path} is not JSON: {fault}.") from fault

    def listing(self, holders: Callable[[Sequence[int]], set[int]], limit: int | None) -> Listing:
        """The tasks, as a run wants them.

        Args:
            holders: Which tasks have their prediction already.
            limit: Most tasks that are predicted.
        """
        return Listing(f"limit {limit}", self._pages, holders, limit, is_quick=True)

    def locate(self, uri: str, *, project: str | None, task_id: int | None) -> PictureLocation:
        """Where a task's picture is: what has a scheme or is Label Studio's is fetched, the rest is a file."""
        if ":" in uri.partition("/")[0] or uri.startswith(_LABEL_STUDIO):
            return self._access.locate(uri, project=project, task_id=task_id)
        return file_location(self._base / uri)

    def _pages(self) -> Iterator[list[Task]]:
        page: list[Task] = []
        for entry in self.entries():
            page.append(entry.task)
            if len(page) == PAGE:
                yield page
                page = []
        yield page

    def _pictures(self) -> Iterator[Entry]:
        for folder, folders, files in os.walk(self._path):
            folders.sort()
            for name in sorted(files):
                path = Path(folder) / name
                if path.suffix.lower() not in SUFFIXES:
                    continue
                inside = path.relative_to(self._path).as_posix()
                stat = path.stat()
                number = _number([inside, stat.st_size, stat.st_mtime_ns])
                written = {"data": {self._data_key: self._url_prefix + quote(inside)}}
                yield Entry(Task(number, {self._data_key: inside}), written, inside)

    def _tasks(self) -> Iterator[Entry]:
        for given in self._given():
            written = read_task(given, self._data_key)
            data = written["data"]
            yield Entry(Task(_number(data), data), written, str(data.get(self._data_key, "")))

    def _given(self) -> Iterable[object]:
        if self._path.suffix.lower() == ".jsonl":
            with self._path.open(encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if line.strip())
            return
        listed = json.loads(self._path.read_text(encoding="utf-8"))
        if not isinstance(listed, list):
            raise InvalidRequest(f"{self._path} must hold a list of tasks.")
        yield from listed


def _number(identity: object) -> int:
    """A task's number: 56 bits of what it is."""
    text = json.dumps(identity, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
