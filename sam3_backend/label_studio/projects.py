"""A project's tasks, read page by page through Label Studio's API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import LabelStudioError
from sam3_backend.label_studio.label_config import LabelConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sam3_backend.label_studio.api import LabelStudioApi

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Project:
    """A project as Label Studio describes it.

    Attributes:
        number: Its number.
        title: Its name.
        config: Its labelling config.
        tasks: How many tasks it has.
    """

    number: int
    title: str
    config: LabelConfig
    tasks: int


def read_project(api: LabelStudioApi, number: int) -> Project:
    """What Label Studio says of a project.

    Raises:
        LabelStudioError: It does not answer, or has no such project.
        InvalidLabelConfig: The project's labelling config cannot be used.
    """
    answer = api.get(f"/api/projects/{number}/")
    try:
        return Project(number, answer["title"], LabelConfig.parse(answer["label_config"]), answer["task_number"])
    except (KeyError, TypeError) as fault:
        raise LabelStudioError(f"Label Studio's description of project {number} lacks {fault}.") from fault


def task_pages(api: LabelStudioApi, number: int) -> Iterator[list[Mapping[str, Any]]]:
    """All tasks of a project, page by page, each as Label Studio describes it.

    Raises:
        LabelStudioError: Label Studio does not answer.
    """
    page, seen, total = 1, 0, 1
    while seen < total:
        answer = api.get("/api/tasks/", project=number, page=page, page_size=PAGE_SIZE, fields="task_only")
        tasks, total = answer["tasks"], answer["total"]
        if not tasks:  # some were deleted while we read
            return
        yield tasks
        seen += len(tasks)
        page += 1
