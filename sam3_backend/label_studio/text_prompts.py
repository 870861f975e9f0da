"""Text prompts as people write them: in the prompt's TextArea, in a task's data, in labels.

``red car; pickup`` are two prompts; ``car: red car; pickup`` gives both the label "car"; ``car: pickup; tree: oak`` is
about two labels. Without a label in front a prompt gets the label it means, if there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam3_backend.errors import InvalidPrompt, InvalidRequest
from sam3_backend.prompts import PromptSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sam3_backend.label_studio.label_config import LabelConfig


def written_prompts(text: str, config: LabelConfig) -> Iterator[PromptSet]:
    """The prompts in one text; what is blank is left out.

    Raises:
        InvalidPrompt: A label in front is none of the config's.
    """
    named: str | None = None
    for part in text.split(";"):
        head, colon, tail = part.partition(":")
        if colon and config.labels:
            named, part = _label_named(head, config), tail  # noqa: PLW2901
        if line := " ".join(part.split()):
            yield PromptSet(text=line, label=named or config.label_for(line))


def data_prompts(value: object, field: str, config: LabelConfig) -> Iterator[PromptSet]:
    """The prompts in a field of a task.

    Args:
        value: A text, whose lines are read one by one; a list of texts; or an object of labels and their texts.
        field: The field's name.
        config: Whose labels they get.

    Raises:
        InvalidPrompt: A label is none of the config's.
        InvalidRequest: The value is something else.
    """
    if isinstance(value, str):
        for line in value.splitlines():
            yield from written_prompts(line, config)
    elif isinstance(value, list):
        for each in value:
            yield from data_prompts(each, field, config)
    elif isinstance(value, dict):
        for name, texts in value.items():
            label = _label_named(str(name), config)
            for prompt in data_prompts(texts, field, config):
                yield PromptSet(text=prompt.text, label=label)
    elif value is not None:
        raise InvalidRequest(f'The task\'s field "{field}" must hold a text, a list of texts, or texts by label.')


def unique(prompts: Iterable[PromptSet]) -> tuple[PromptSet, ...]:
    """Each question once, whatever the capitals; of two with one text and different labels, both."""
    asked: dict[object, PromptSet] = {}
    for each in prompts:
        asked.setdefault(((each.text or "").casefold(), each.label), each)
    return tuple(asked.values())


def _label_named(name: str, config: LabelConfig) -> str:
    meant = config.meanings.find(name)
    if meant is None:
        known = ", ".join(f'"{label.value}"' for label in config.labels)
        raise InvalidPrompt(f'There is no label "{name.strip()}". Before a colon write one of: {known}.')
    return meant.stored_name
