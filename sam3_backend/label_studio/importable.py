"""Files that Label Studio imports, and labelling configs written from texts: its words without its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from sam3_backend.errors import InvalidPrompt, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEPT = ("data", "meta", "annotations", "predictions")
"""What an import takes of a task; numbers and dates belong to the Label Studio that gave them out."""


def read_task(given: object, data_key: str) -> dict[str, Any]:
    """A task as people write it down: with ``data``, as bare data, or as a picture's address alone.

    Args:
        given: One entry of a list of tasks.
        data_key: Field of the picture's address, for an address alone.

    Raises:
        InvalidRequest: It is none of these.
    """
    if isinstance(given, str):
        return {"data": {data_key: given}}
    if not isinstance(given, dict):
        raise InvalidRequest(f"A task must be an object or an address, not {given!r:.100}.")
    if not isinstance(given.get("data"), dict):
        return {"data": given}
    return {name: given[name] for name in _KEPT if name in given}


def importable_task(task: Mapping[str, Any], prediction: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task that Label Studio imports together with its prediction, if there is one."""
    more = [prediction] if prediction is not None else []
    return {**task, "predictions": [*(task.get("predictions") or []), *more]}


def config_for(wanted: Sequence[str]) -> str:
    """A labelling config with brushes for texts, where a person has none.

    Args:
        wanted: ``LABEL=TEXT,TEXT`` or ``TEXT,TEXT`` each; a text alone is its own label.

    Raises:
        InvalidPrompt: There is no text.
    """
    labels: dict[str, list[str]] = {}
    for each in wanted:
        name, _, listed = each.rpartition("=")
        for part in listed.split(","):
            if text := " ".join(part.split()):
                labels.setdefault(" ".join(name.split()) or text, []).append(text)
    if not labels:
        raise InvalidPrompt('Say what to look for: --text "Vehicle=car,truck", or --config with a labelling config.')
    written = [
        f"    <Label value={quoteattr(name)} predicted_values={quoteattr(','.join(texts))}/>"
        for name, texts in labels.items()
    ]
    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image"/>',
            '  <BrushLabels name="brush" toName="image" smart="false">',
            *written,
            "  </BrushLabels>",
            "</View>",
            "",
        ]
    )
