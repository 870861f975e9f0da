"""The predictions that a project's tasks hold in Label Studio: which tasks hold one, many added at once.

Knows Label Studio's API for predictions. Does not know how they come about, nor what is retried.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import LabelStudioError
from sam3_backend.label_studio import selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sam3_backend.label_studio.api import LabelStudioApi

MOST_ASKED = 200
"""Tasks asked after in one address, which must not become too long for proxies."""


class StoredPredictions:
    """The stored predictions of one project with one model version.

    Args:
        api: Label Studio.
        project: The project's number.
        version: The model version. Predictions of failed tasks, whose version goes on with a reason, are others.
    """

    def __init__(self, api: LabelStudioApi, project: int, version: str) -> None:
        self._api = api
        self._project = project
        self._version = version

    def holders(self, tasks: Sequence[int]) -> set[int]:
        """Which of these tasks hold a prediction of this version.

        Raises:
            LabelStudioError: Label Studio does not answer.
        """
        holding: set[int] = set()
        for start in range(0, len(tasks), MOST_ASKED):
            holding |= self._holders(list(tasks[start : start + MOST_ASKED]))
        return holding

    def _holders(self, tasks: list[int]) -> set[int]:
        # Label Studio can say which versions contain a text, and a failed task's version contains the good one.
        candidates = self._containing(tasks, self._version)
        failed = self._containing(sorted(candidates), f"{self._version}:") if candidates else set()
        return candidates - failed | {task for task in failed if self._of(task)}

    def add(self, predictions: Mapping[int, Mapping[str, Any]]) -> int:
        """Store one prediction for each of some tasks, all or none.

        Args:
            predictions: Task's number to its prediction.

        Returns:
            How many Label Studio took; it drops what contradicts the labelling config, and does not say which.

        Raises:
            LabelStudioError: It refused them all, or did not answer; then nobody knows.
        """
        body = [{"task": task, **prediction} for task, prediction in predictions.items()]
        answer = self._api.send("POST", f"/api/projects/{self._project}/import/predictions", body)
        return int(answer["created"])

    def remove_copies(self, task: int) -> int:
        """Leave a task no more than one prediction of this version, the first.

        Returns:
            How many were removed.

        Raises:
            LabelStudioError: Label Studio does not answer.
        """
        copies = sorted(self._of(task))[1:]
        for each in copies:
            try:
                self._api.send("DELETE", f"/api/predictions/{each}/")
            except LabelStudioError as fault:
                if fault.status != HTTPStatus.NOT_FOUND:  # else another run removed it, which keeps the same one
                    raise
        return len(copies)

    def _of(self, task: int) -> list[int]:
        """Numbers of a task's predictions of this version."""
        stored = self._api.get("/api/predictions/", task=task)
        return [int(each["id"]) for each in stored if each["model_version"] == self._version]

    def _containing(self, tasks: list[int], version: str) -> set[int]:
        has_version = {
            "filter": "filter:tasks:predictions_model_versions",
            "operator": "contains",
            "type": "List",
            "value": [version],
        }
        return selection.matching(self._api, self._project, tasks, [has_version])
