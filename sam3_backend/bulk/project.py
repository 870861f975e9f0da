"""A project of Label Studio as the source of a bulk run: its tasks, what they hold, how one is predicted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sam3_backend.bulk.preannotate import Listing
from sam3_backend.bulk.work import Done, Task, found_objects
from sam3_backend.label_studio.selection import pages, spread
from sam3_backend.label_studio.stored_predictions import StoredPredictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sam3_backend.label_studio.api import LabelStudioApi
    from sam3_backend.label_studio.client import LabelStudioAccess
    from sam3_backend.label_studio.label_config import LabelConfig
    from sam3_backend.label_studio.predictions import Predictions
    from sam3_backend.label_studio.selection import Selection


@dataclass(frozen=True)
class ProjectTasks:
    """Some tasks of a project and what is looked for in them.

    Attributes:
        api: Label Studio.
        access: Finds pictures.
        number: The project's number.
        config: What is looked for.
        selection: Which tasks.
        version: Model version of their predictions.
    """

    api: LabelStudioApi
    access: LabelStudioAccess
    number: int
    config: LabelConfig
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

    def listing(self, limit: int | None) -> Listing:
        """The tasks, as a run wants them."""
        return Listing(f"{self.selection}, limit {limit}", self._pages, self.stored.holders, limit)

    def sample(self, wanted: int) -> list[Task]:
        """A few of the tasks, from the first to the last."""
        return [Task(each["id"], each["data"]) for each in spread(self.api, self.number, self.selection, wanted)]

    def _pages(self) -> Iterator[list[Task]]:
        for page in pages(self.api, self.number, self.selection):
            yield [Task(each["id"], each["data"]) for each in page]


def predicting(predictions: Predictions, config: LabelConfig) -> Callable[[Task], Done]:
    """What predicts one task by the labels of a config."""

    def predict(task: Task) -> Done:
        began_s = time.perf_counter()
        prediction, answer = predictions.predict_by_labels({"id": task.number, "data": task.data}, config)
        return Done(task, prediction, found_objects(answer), time.perf_counter() - began_s)

    return predict
