"""What Label Studio's API says of a project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_backend.errors import LabelStudioError
from sam3_backend.label_studio.label_config import LabelConfig

if TYPE_CHECKING:
    from sam3_backend.label_studio.api import LabelStudioApi


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
