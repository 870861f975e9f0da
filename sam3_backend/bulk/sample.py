"""A few predictions drawn over their pictures, so that a person looks before hours are spent."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from PIL import Image

from sam3_backend.errors import BackendError, ImageUnreachable
from sam3_backend.label_studio.tasks import picture_uri
from sam3_backend.overlay import draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sam3_backend.answer import Answer
    from sam3_backend.bulk.project import ProjectTasks
    from sam3_backend.bulk.work import Task
    from sam3_backend.images import PictureLoader
    from sam3_backend.label_studio.predictions import Predictions


def draw_samples(
    tasks: Iterable[Task], project: ProjectTasks, predictions: Predictions, loader: PictureLoader, folder: Path
) -> Iterator[tuple[str, str, bool]]:
    """Draw what would be predicted.

    Args:
        tasks: Whose pictures.
        project: Where the pictures are, and what is looked for.
        predictions: Predicts.
        loader: Fetches the pictures for drawing.
        folder: Where the drawings go; made where it is missing.

    Yields:
        What to call the task, what was found or why not, whether there is a drawing.

    Raises:
        BackendError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise BackendError(f"{folder} cannot be written: {fault.strerror}.") from fault
    for task in tasks:
        try:
            path, answer = _draw(task, project, predictions, loader, folder)
        except BackendError as fault:
            yield f"Task {task.number}", fault.message, False
        else:
            yield str(path), _said(answer), True


def _draw(
    task: Task, project: ProjectTasks, predictions: Predictions, loader: PictureLoader, folder: Path
) -> tuple[Path, Answer]:
    described = {"id": task.number, "data": task.data}
    _, answer = predictions.predict_by_labels(described, project.config)
    location = project.access.locate(picture_uri(described, project.config), project=None, task_id=task.number)
    download = loader.download(location)
    if download is None:
        raise ImageUnreachable(f"{location.name} was not sent.")
    path = folder / f"task-{task.number}.png"
    Image.fromarray(draw(download.file.decode().rgb, answer.found)).save(path)
    return path, answer


def _said(answer: Answer) -> str:
    counts = Counter(each.label or "no label" for each in answer.found)
    return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing found"
