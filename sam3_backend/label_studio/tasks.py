"""Label Studio's prediction requests, read into typed ones: JSON in.

One ``TaskRequest`` per task, in order, or the fault that keeps this task from being answered. Percentages become
fractions, regions become prompts; the picture's size, as the page claims it, is never read. Touches no network and
does not know what is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import InvalidPrompt, InvalidRequest
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.prompts import Box, Point, PromptSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROUNDING_PCT = 1e-6
"""How far outside the picture the page's own rounding may put a prompt at its edge, in %."""
ABSURD = 1e9


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What is asked about one task.

    Attributes:
        task_id: Label Studio's number of the task, if it has one.
        uri: The picture's address as the task carries it; empty where nothing is asked.
        prompt_sets: The questions; none means an empty answer at once.
    """

    task_id: int | None
    uri: str
    prompt_sets: tuple[PromptSet, ...]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A whole prediction request.

    Attributes:
        project: The project's key as sent, for example "16.1795176323", or None.
        config: The project's labelling config.
        is_interactive: Whether an annotator placed a prompt and waits; else tasks are predicted by their labels.
        tasks: One entry per task, in order; a fault where the task cannot be answered.
    """

    project: str | None
    config: LabelConfig
    is_interactive: bool
    tasks: tuple[TaskRequest | InvalidRequest, ...]


def read_predict(payload: Mapping[str, Any]) -> PredictRequest:
    """The body of ``/predict``.

    Raises:
        InvalidRequest: The request as a whole cannot be read; faults of single tasks and of prompts are in ``tasks``.
        InvalidLabelConfig: So is the labelling config.
    """
    tasks = payload.get("tasks")
    if not isinstance(tasks, list):
        raise InvalidRequest('The request needs "tasks", a list.')
    config = read_config(payload.get("label_config"))
    regions = _context_regions(payload.get("params"))
    prompt_sets: tuple[PromptSet, ...] | InvalidRequest
    try:
        prompt_sets = label_prompts(config) if regions is None else region_prompts(regions, config)
    except InvalidPrompt as fault:
        prompt_sets = fault
    return PredictRequest(
        project=read_project(payload),
        config=config,
        is_interactive=regions is not None,
        tasks=tuple(_read_task(task, config, prompt_sets) for task in tasks),
    )


def read_config(xml: object) -> LabelConfig:
    """The labelling config of a request.

    Raises:
        InvalidRequest: It is missing.
        InvalidLabelConfig: It cannot be used.
    """
    if not isinstance(xml, str):
        raise InvalidRequest("The request carries no labelling config.")
    return LabelConfig.parse(xml)


def read_project(payload: Mapping[str, Any]) -> str | None:
    """The project's key as sent: its number, a dot, and when it was created."""
    project = payload.get("project")
    return str(project) if isinstance(project, (str, int)) and str(project) else None


def label_prompts(config: LabelConfig) -> tuple[PromptSet, ...]:
    """One question for each text that the labels of a config stand for."""
    return tuple(PromptSet(text=text, label=label.stored_name) for label in config.labels for text in label.texts)


def region_prompts(regions: Sequence[Mapping[str, Any]], config: LabelConfig) -> tuple[PromptSet, ...]:
    """The questions that the page's prompt regions ask together.

    Points with the same label are about one object; every rectangle and every text is a question of its own. Regions
    that are no prompts are passed over: answered choices and numbers, and what the page leaves of accepted prompts.

    Raises:
        InvalidPrompt: A prompt is out of range or not a number.
    """
    names_by_id = {str(each.get("id")): name for each in regions if (name := _label_name(each.get("value")))}
    points: dict[str | None, list[Point]] = {}
    questions: dict[object, PromptSet] = {}
    for region in regions:
        kind, value = str(region.get("type")), region.get("value")
        if not isinstance(value, dict) or str(region.get("from_name")) in config.not_prompts:
            continue
        # Plain tools keep the label in a region of its own, with the same id.
        label = config.label_for(_label_name(value) or names_by_id.get(str(region.get("id"))))
        if kind in {"keypointlabels", "keypoint"} and {"x", "y"} <= value.keys():
            points.setdefault(label, []).append(_point(region, value))
            questions[label, "points"] = PromptSet(points=tuple(points[label]), label=label)
        elif kind in {"rectanglelabels", "rectangle"} and {"x", "y", "width", "height"} <= value.keys():
            box = _box(value)
            questions[label, box] = PromptSet(box=box, label=label)
        elif kind == "textarea":
            for text in _texts(value):
                questions.setdefault(text.casefold(), PromptSet(text=text, label=config.label_for(text)))
    return tuple(questions.values())


def _context_regions(params: object) -> list[Mapping[str, Any]] | None:
    """The regions an annotator asks with; None where nobody does."""
    context = params.get("context") if isinstance(params, dict) else None
    if context is None or context == {}:
        return None
    if not isinstance(context, dict):
        raise InvalidRequest('"params.context" must be an object or null.')
    regions = context.get("result") or []
    if not isinstance(regions, list):
        raise InvalidRequest('"params.context.result" must be a list of regions.')
    return [region for region in regions if isinstance(region, dict)]


def _read_task(
    task: object, config: LabelConfig, prompt_sets: tuple[PromptSet, ...] | InvalidRequest
) -> TaskRequest | InvalidRequest:
    if isinstance(prompt_sets, InvalidRequest):
        return prompt_sets
    if not isinstance(task, dict):
        return InvalidRequest("A task must be an object.")
    number = task.get("id")
    task_id = number if isinstance(number, int) and not isinstance(number, bool) else None
    if not prompt_sets:
        return TaskRequest(task_id, "", ())
    uri = _field(task.get("data"), config.data_key)
    if not isinstance(uri, str) or not uri.strip():
        return InvalidRequest(f'The task has no picture in its field "{config.data_key}".')
    return TaskRequest(task_id, uri, prompt_sets)


def _field(data: object, key: str) -> object:
    """A task's field: by its full name, else by the way that the dots in it lead."""
    if not isinstance(data, dict):
        return None
    if key in data:
        return data[key]
    head, dot, rest = key.partition(".")
    return _field(data.get(head), rest) if dot else None


def _label_name(value: object) -> str | None:
    """The first label in a region's value."""
    for field in ("keypointlabels", "rectanglelabels", "labels"):
        names = value.get(field) if isinstance(value, dict) else None
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    return None


def _point(region: Mapping[str, Any], value: Mapping[str, Any]) -> Point:
    # Only what is marked as "not this" is negative: older pages and other clients send no mark at all.
    is_positive = region.get("is_positive", value.get("is_positive")) is not False
    return Point(_fraction(value, "x"), _fraction(value, "y"), is_positive)


def _box(value: Mapping[str, Any]) -> Box:
    x, y, width, height = (_number(value, name) for name in ("x", "y", "width", "height"))
    rotation_deg = _number(value, "rotation") % 360 if value.get("rotation") is not None else 0.0
    if rotation_deg:
        return Box(x / 100, y / 100, (x + width) / 100, (y + height) / 100, rotation_deg)
    edges = {"x": x, "y": y, "x + width": x + width, "y + height": y + height}
    return Box(*(_fraction(edges, name) for name in edges))


def _texts(value: Mapping[str, Any]) -> Iterator[str]:
    """The texts typed, in one line each; what is blank is left out."""
    typed = value.get("text")
    for text in typed if isinstance(typed, list) else [typed]:
        if text is None:
            continue
        if not isinstance(text, str):
            raise InvalidPrompt("A text prompt must be a text.")
        if line := " ".join(text.split()):
            yield line


def _number(value: Mapping[str, Any], name: str) -> float:
    number = value[name]
    # Compared first, because whole numbers in JSON may be too large for a float.
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < ABSURD:
        raise InvalidPrompt(f"A prompt's {name} is not a number. Remove the prompt and place it again.")
    return float(number)


def _fraction(value: Mapping[str, Any], name: str) -> float:
    percent = _number(value, name)
    if not -ROUNDING_PCT <= percent <= 100 + ROUNDING_PCT:
        raise InvalidPrompt(f"A prompt lies outside the picture: its {name} is {percent:g} %. Place it again.")
    return min(max(percent / 100, 0.0), 1.0)
