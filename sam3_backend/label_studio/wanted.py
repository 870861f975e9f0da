"""Texts to look for instead of those in the labelling config, as written on a command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sam3_backend.errors import InvalidPrompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_backend.label_studio.label_config import LabelConfig


def looking_for(config: LabelConfig, wanted: Sequence[str]) -> LabelConfig:
    """The labelling config as it would be if it looked for these texts and for nothing else.

    Its model version differs as well, so that such predictions are not taken for those of the config itself.

    Args:
        config: The project's labelling config.
        wanted: ``LABEL=TEXT,TEXT`` each, or ``TEXT,TEXT`` where the label is the one that the text means.

    Raises:
        InvalidPrompt: There is no such label, or no text.
    """
    texts: dict[str, list[str]] = {}
    for each in wanted:
        name, equals, listed = each.rpartition("=")
        found = [text for part in listed.split(",") if (text := " ".join(part.split()))]
        if not found:
            raise InvalidPrompt(f'"{each}" says nothing to look for; write for example "Vehicle=car,truck".')
        for text in found:
            label = _label_named(config, name) if equals else config.label_for(text) or _label_named(config, text)
            texts.setdefault(label, []).append(text)
    outputs = []
    for output in config.outputs:
        labels = [
            replace(label, predicted_values=tuple(dict.fromkeys(texts[label.stored_name])))
            for label in output.labels
            if label.stored_name in texts
        ]
        if labels:
            outputs.append(replace(output, labels=tuple(labels)))
    return replace(config, outputs=tuple(outputs), tuning=config.tuning._replace(prompt_field=None))


def _label_named(config: LabelConfig, name: str) -> str:
    meant = config.meanings.find(name)
    if meant is not None:
        return meant.stored_name
    known = ", ".join(f'"{label.value}"' for label in config.labels)
    raise InvalidPrompt(f'"{name}" is none of the labels {known}. Write "LABEL=text,text".')
