"""Label Studio's prediction requests, read into typed ones: JSON in.

One ``TaskRequest`` per task, in order, or the fault that keeps this task from being answered. Touches no network and
does not know what is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import InvalidPrompt, InvalidRequest
from sam3_backend.label_studio.accepted import Accepted, accepted_by_asker
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.parameters import Moment, read_moment
from sam3_backend.label_studio.prompt_regions import region_prompts
from sam3_backend.label_studio.text_prompts import data_prompts, unique
from sam3_backend.label_studio.tuning import Tuning
from sam3_backend.prompts import PromptSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What is asked about one task.

    Attributes:
        task_id: Label Studio's number of the task, if it has one.
        uri: The picture's address as the task carries it; empty where nothing is asked.
        prompt_sets: The questions; none means an empty answer at once.
        accepted: What the annotator who asks has accepted already; empty where nobody asks.
    """

    task_id: int | None
    uri: str
    prompt_sets: tuple[PromptSet, ...]
    accepted: Accepted = field(default_factory=Accepted, compare=False)


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A whole prediction request.

    Attributes:
        project: The project's key as sent, for example "16.1795176323", or None.
        config: The project's labelling config.
        is_interactive: Whether an annotator placed a prompt and waits; else tasks are predicted by their labels.
        tasks: One entry per task, in order; a fault where the task cannot be answered.
        prompt_ids: The page's ids of the prompts; empty where nobody prompts.
        tuning: The config's, with what the annotator answered for the moment in its place.
    """

    project: str | None
    config: LabelConfig
    is_interactive: bool
    tasks: tuple[TaskRequest | InvalidRequest, ...]
    prompt_ids: frozenset[str] = frozenset()
    tuning: Tuning = Tuning()  # noqa: RUF009  # immutable


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
    moment = Moment(config.tuning)
    ids = frozenset(str(region["id"]) for region in regions or () if "id" in region)
    tasks_read: list[TaskRequest | InvalidRequest]
    if regions is None:
        tasks_read = [_read(labelled_task, task, config) for task in tasks]
    else:
        try:
            moment = read_moment(regions, config.parameters, config.tuning)
            prompts = region_prompts(regions, config, moment.mode)
        except InvalidPrompt as fault:
            tasks_read = [fault] * len(tasks)
        else:
            tasks_read = [_read(_prompted_task, task, config, prompts, ids) for task in tasks]
    return PredictRequest(
        project=read_project(payload),
        config=config,
        is_interactive=regions is not None,
        tasks=tuple(tasks_read),
        prompt_ids=ids,
        tuning=moment.tuning,
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


def label_prompts(config: LabelConfig, data: object) -> tuple[PromptSet, ...]:
    """What to look for in a task that nobody prompts.

    One question for each text that the labels of a config stand for; or the prompts in the task's own field, where the
    config names one, for all labels (``model_prompt_field``) or for one (``predicted_values="$field"``).

    Args:
        config: The project's labelling config.
        data: The task's data.

    Raises:
        InvalidPrompt: A field names a label that the config does not have.
        InvalidRequest: The task lacks the field, or the field holds no texts.
    """
    if config.tuning.prompt_field is not None:
        name = config.tuning.prompt_field
        return unique(data_prompts(_needed_field(data, name), name, config))
    prompts: list[PromptSet] = []
    for label in config.labels:
        for text in label.texts:
            texts: Iterable[str | None] = [text]
            if text.startswith("$"):
                texts = (each.text for each in data_prompts(_needed_field(data, text[1:]), text[1:], config))
            prompts += [PromptSet(text=each, label=label.stored_name) for each in texts]
    return unique(prompts)


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


def _read(
    read: Callable[..., TaskRequest], task: object, config: LabelConfig, *more: object
) -> TaskRequest | InvalidRequest:
    """A task, read; or the fault that keeps it from being answered, which is nobody else's."""
    if not isinstance(task, dict):
        return InvalidRequest("A task must be an object.")
    try:
        return read(task, config, *more)
    except InvalidRequest as fault:
        return fault


def labelled_task(task: Mapping[str, Any], config: LabelConfig) -> TaskRequest:
    """What is asked about a task that nobody prompts; raises as ``label_prompts`` and ``picture_uri``."""
    prompts = label_prompts(config, task.get("data"))
    return TaskRequest(_task_id(task), picture_uri(task, config) if prompts else "", prompts)


def _prompted_task(
    task: Mapping[str, Any], config: LabelConfig, prompts: tuple[PromptSet, ...], prompt_ids: set[str]
) -> TaskRequest:
    uri = picture_uri(task, config) if prompts else ""
    return TaskRequest(_task_id(task), uri, prompts, accepted_by_asker(task, prompt_ids))


def _task_id(task: Mapping[str, Any]) -> int | None:
    number = task.get("id")
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def picture_uri(task: Mapping[str, Any], config: LabelConfig) -> str:
    """Where a task says that its picture is.

    Raises:
        InvalidRequest: It does not.
    """
    uri = _field(task.get("data"), config.data_key)
    if not isinstance(uri, str) or not uri.strip():
        raise InvalidRequest(f'The task has no picture in its field "{config.data_key}".')
    return uri


def _needed_field(data: object, key: str) -> object:
    value = _field(data, key)
    if value is None:
        raise InvalidRequest(f'The task has no prompts in its field "{key}".')
    return value


def _field(data: object, key: str) -> object:
    """A task's field: by its full name, else by the way that the dots in it lead."""
    if not isinstance(data, dict):
        return None
    if key in data:
        return data[key]
    head, dot, rest = key.partition(".")
    return _field(data.get(head), rest) if dot else None
