"""A project of Label Studio as the source of a bulk run: its tasks, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sam3_backend.bulk.preannotate import Listing
from sam3_backend.bulk.work import Task
from sam3_backend.label_studio.selection import pages, spread
from sam3_backend.label_studio.stored_predictions import StoredPredictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sam3_backend.bulk.shards import Shards
    from sam3_backend.label_studio.api import LabelStudioApi
    from sam3_backend.label_studio.selection import Selection

PAGE = 500


@dataclass(frozen=True)
class ProjectTasks:
    """Some tasks of a project.

    Attributes:
        api: Label Studio.
        number: The project's number.
        selection: Which tasks.
        version: Model version of their predictions.
    """

    api: LabelStudioApi
    number: int
    selection: Selection
    version: str

    @property
    def place(self) -> str:
        """What a journal calls the project."""
        return f"{self.api.origin}/projects/{self.number}"

    @cached_property
    def stored(self) -> StoredPredictions:
        """The predictions that the project holds."""
        return StoredPredictions(self.api, self.number, self.version)

    def listing(self, limit: int | None, kept: Callable[[Sequence[int]], set[int]] = lambda _tasks: set()) -> Listing:
        """The tasks, as a run wants them.

        Args:
            limit: Most tasks that are predicted.
            kept: Which tasks have their prediction elsewhere.
        """

        def holders(tasks: Sequence[int]) -> set[int]:
            return self.stored.holders(tasks) | kept(tasks)

        return Listing(f"{self.selection}, limit {limit}", self._pages, holders, limit)

    def imported(self, shards: Shards) -> Listing:
        """The tasks whose predictions lie in shards, as a run wants them that stores these."""

        def pages() -> Iterator[list[Task]]:
            page: list[Task] = []
            for done in shards.all():
                page.append(done.task)
                if len(page) == PAGE:
                    yield page
                    page = []
            yield page

        return Listing(f"shards {shards.run}", pages, self.stored.holders, is_quick=True)

    def sample(self, wanted: int) -> list[Task]:
        """A few of the tasks, from the first to the last."""
        return [Task(each["id"], each["data"]) for each in spread(self.api, self.number, self.selection, wanted)]

    def _pages(self) -> Iterator[list[Task]]:
        for page in pages(self.api, self.number, self.selection):
            yield [Task(each["id"], each["data"]) for each in page]
