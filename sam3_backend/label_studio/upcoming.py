"""Which tasks annotators are at, and which they will open next, as far as Label Studio tells.

Reads webhooks and a project's task list; does not know what is done with the tasks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import InvalidRequest
from sam3_backend.label_studio.label_config import LabelConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sam3_backend.label_studio.api import LabelStudioApi

UNFORESEEABLE = frozenset({"Uniform sampling", "Uncertainty sampling"})
"""Orders of a project in which nobody can tell the next task: at random, and by scores that change."""
UNFINISHED = {"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True}


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task that somebody works on.

    Attributes:
        project: The project's key, as ``/setup`` and ``/predict`` send it.
        task_id: The task's number.
        config: The project's labelling config.
    """

    project: str
    task_id: int
    config: LabelConfig


def annotated_task(webhook: Mapping[str, Any]) -> OpenTask | None:
    """The task that an ANNOTATION_CREATED webhook is about; None for any other webhook, or one that cannot be read."""
    if webhook.get("action") != "ANNOTATION_CREATED":
        return None
    try:
        project = webhook["project"]
        created = datetime.fromisoformat(project["created_at"])
        # Elsewhere Label Studio names a project by its number and the second of its creation.
        key = f"{project['id']}.{int(created.timestamp())}"
        return OpenTask(key, int(webhook["task"]["id"]), LabelConfig.parse(project["label_config"]))
    except (KeyError, TypeError, ValueError, InvalidRequest):
        return None


def upcoming_tasks(api: LabelStudioApi, task: OpenTask, count: int) -> list[Mapping[str, Any]]:
    """The tasks that the project's order puts behind one.

    Args:
        api: The project's Label Studio.
        task: The task that is open now.
        count: How many to name at the most.

    Returns:
        Unfinished tasks in their order, as Label Studio describes them; none where the project's sampling is one in
        which nobody can tell.

    Raises:
        LabelStudioError: Label Studio does not say.
    """
    project_id = task.project.split(".")[0]
    if api.get(f"/api/projects/{project_id}/").get("sampling") in UNFORESEEABLE:
        return []
    behind = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": task.task_id}
    query = {"filters": {"conjunction": "and", "items": [UNFINISHED, behind]}, "ordering": ["tasks:id"]}
    answer = api.get(
        "/api/tasks/",
        project=project_id,
        page=1,
        page_size=count,
        fields="task_only",
        include="id,data",
        query=json.dumps(query),
    )
    return list(answer["tasks"])
