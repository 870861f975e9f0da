"""Which of a project's tasks are meant: a tab of the Data Manager, its filters, tasks that nobody has labelled.

Reads them page by page through Label Studio's API. Does not know what is done with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import InvalidRequest, LabelStudioError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sam3_backend.label_studio.api import LabelStudioApi

PAGE_SIZE = 500
# Label Studio computes what is not named here as well, which takes it seven times as long.
_FIELDS = "id,data,total_annotations"


@dataclass(frozen=True, slots=True)
class Selection:
    """Some of a project's tasks.

    Attributes:
        view: Number of a tab of the Data Manager, whose filters then hold; None for all tasks.
        filters: Further filters, as ``read_filter`` gives them; a task must pass all of them.
        only_unlabeled: Whether tasks that have an annotation are left out.
    """

    view: int | None = None
    filters: tuple[str, ...] = ()
    only_unlabeled: bool = False


def read_filter(text: str) -> str:
    """A filter of the Data Manager, as JSON.

    Args:
        text: ``COLUMN OPERATOR VALUE``, for example ``data.city equal Oslo``, or the JSON of one filter as Label Studio
            writes it.

    Raises:
        InvalidRequest: It is neither.
    """
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text)
        except ValueError as fault:
            raise InvalidRequest(f"The filter {text!r} is not JSON: {fault}.") from fault
        if not {"filter", "operator", "type", "value"} <= given.keys():
            raise InvalidRequest('A filter in JSON needs "filter", "operator", "type" and "value".')
        return json.dumps(given)
    column, operator, value = (*text.split(maxsplit=2), "", "", "")[:3]
    if not value:
        raise InvalidRequest(f'The filter {text!r} must be "COLUMN OPERATOR VALUE", for example "id greater 100".')
    return json.dumps({"filter": f"filter:tasks:{column}", "operator": operator, **_typed(value)})


def count_tasks(api: LabelStudioApi, project: int, selection: Selection) -> int:
    """How many tasks there are, those that people have labelled included; raises as ``pages``."""
    answer = _ask(api, project, _query(api, project, selection), page=1, size=1)
    return int(answer["total"])


def pages(
    api: LabelStudioApi, project: int, selection: Selection, size: int = PAGE_SIZE
) -> Iterator[list[Mapping[str, Any]]]:
    """The tasks by their numbers, page by page, each with its number and its data.

    Raises:
        LabelStudioError: Label Studio does not answer, or there is no such tab or column.
        InvalidRequest: The tab's filters cannot be joined with further ones.
    """
    query = _query(api, project, selection)
    page, seen, total = 1, 0, 1
    while seen < total:
        answer = _ask(api, project, query, page=page, size=size)
        tasks, total = answer["tasks"], answer["total"]
        if not tasks:  # some were deleted while we read
            return
        yield [each for each in tasks if not (selection.only_unlabeled and each["total_annotations"])]
        seen += len(tasks)
        page += 1


def spread(api: LabelStudioApi, project: int, selection: Selection, wanted: int) -> list[Mapping[str, Any]]:
    """A few of the tasks, from the first to the last, for a look at them; raises as ``pages``."""
    query = _query(api, project, selection)
    total = count_tasks(api, project, selection)
    wanted = min(wanted, total)
    places = [1 + place * total // wanted for place in range(wanted)]
    return [task for place in places for task in _ask(api, project, query, page=place, size=1)["tasks"]]


def matching(api: LabelStudioApi, project: int, numbers: list[int], filters: list[Mapping[str, Any]]) -> set[int]:
    """Which of these tasks pass filters of the Data Manager; raises as ``pages``."""
    query = {
        "selectedItems": {"all": False, "included": numbers},
        "filters": {"conjunction": "and", "items": filters},
    }
    found: set[int] = set()
    page, seen, total = 1, 0, 1
    while seen < total:  # a task counts once for each of its predictions that passes
        answer = _ask(api, project, query, page=page, size=PAGE_SIZE, fields="id")
        found |= {int(each["id"]) for each in answer["tasks"]}
        seen, total, page = seen + PAGE_SIZE, answer["total"], page + 1
    return found


def _ask(
    api: LabelStudioApi, project: int, query: Mapping[str, Any], *, page: int, size: int, fields: str = _FIELDS
) -> Any:
    # Addresses stay as they were imported: what they lead to may expire before the task's turn comes.
    answer = api.get(
        "/api/tasks/",
        project=project,
        page=page,
        page_size=size,
        fields="task_only",
        include=fields,
        resolve_uri="false",
        query=json.dumps(query, separators=(",", ":")),
    )
    if not isinstance(answer, dict) or "tasks" not in answer or "total" not in answer:
        raise LabelStudioError(f"{api.origin} did not answer with a page of tasks.")
    return answer


def _query(api: LabelStudioApi, project: int, selection: Selection) -> dict[str, Any]:
    """What the Data Manager would ask for the selection, the tasks ordered by their numbers."""
    filters: dict[str, Any] = {"conjunction": "and", "items": []}
    if selection.view is not None:
        view = api.get(f"/api/dm/views/{selection.view}/")
        if view.get("project") != project:
            raise InvalidRequest(f"The tab {selection.view} does not belong to project {project}.")
        shown = view.get("data") or {}
        filters = dict(shown.get("filters") or filters)
    if selection.filters:
        if filters.get("conjunction") == "or" and len(filters["items"]) > 1:
            raise InvalidRequest('The tab joins its filters with "or": a further filter cannot be added to it.')
        further = [json.loads(each) for each in selection.filters]
        filters = {"conjunction": "and", "items": [*filters["items"], *further]}
    return {"filters": filters, "ordering": ["tasks:id"]}


def _typed(value: str) -> dict[str, Any]:
    if value.lower() in {"true", "false"}:
        return {"type": "Boolean", "value": value.lower() == "true"}
    try:
        return {"type": "Number", "value": int(value)}
    except ValueError:
        return {"type": "String", "value": value}
