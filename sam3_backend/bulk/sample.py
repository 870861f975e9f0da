"""A few predictions drawn over their pictures, so that a person looks before trusting them, or spending hours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from sam3_backend.errors import BackendError
from sam3_backend.label_studio.tasks import picture_uri
from sam3_backend.overlay import draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sam3_backend.answer import Answer
    from sam3_backend.bulk.work import Task
    from sam3_backend.images import PictureFile, PictureLocation
    from sam3_backend.label_studio.label_config import LabelConfig
    from sam3_backend.label_studio.predictions import Locates, Predictions


@dataclass(frozen=True, slots=True)
class Sample:
    """One task, drawn.

    Attributes:
        task: The task.
        said: What was found, or why there is no drawing.
        drawing: The picture with what was found, or None.
    """

    task: Task
    said: str
    drawing: Image.Image | None = None


@dataclass(frozen=True, slots=True)
class Artist:
    """Predicts tasks and draws what it finds.

    Attributes:
        predictions: Predicts.
        config: What is looked for.
        access: Finds pictures.
        fetch: Fetches them, for drawing.
    """

    predictions: Predictions
    config: LabelConfig
    access: Locates
    fetch: Callable[[PictureLocation], PictureFile]

    def draw(self, tasks: Iterable[Task]) -> Iterator[Sample]:
        """Draw what would be predicted; what cannot be is said."""
        for task in tasks:
            described = {"id": task.number, "data": task.data}
            try:
                _, answer = self.predictions.predict_by_labels(described, self.config)
                uri = picture_uri(described, self.config)
                file = self.fetch(self.access.locate(uri, project=None, task_id=task.number))
                yield Sample(task, _said(answer), Image.fromarray(draw(file.decode().rgb, answer.found)))
            except BackendError as fault:
                yield Sample(task, fault.message)


def _said(answer: Answer) -> str:
    counts = Counter(each.label or "no label" for each in answer.found)
    return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing found"
