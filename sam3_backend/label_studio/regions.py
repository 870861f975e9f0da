"""Answers, written as Label Studio's predictions and regions: JSON out.

Does not know how an answer came about, nor HTTP, nor how a mask is kept by each kind of control.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sam3_backend.label_studio.shapes import shape_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_backend.answer import Answer
    from sam3_backend.label_studio.controls import Output
    from sam3_backend.label_studio.label_config import LabelConfig, MessageControl

Region = dict[str, Any]

LONGEST_REASON = 300
"""Characters of a reason that fit a column of the Data Manager."""


def answer_regions(answer: Answer, config: LabelConfig) -> list[Region]:
    """The regions of an answer, in its order: one or more for each control that an object is written to.

    Each has the size of the upright picture itself: the page breaks where a mask does not fit its picture.
    """
    frame = {
        "to_name": config.image_name,
        "original_width": answer.width_px,
        "original_height": answer.height_px,
        "image_rotation": 0,
    }
    return [
        frame | {"score": round(found.score, 6)} | part
        for found in answer.found
        for output in config.outputs_for(found.label)
        for value in shape_values(found.mask, output)
        for part in _parts(value, found.label, output)
    ]


def message_regions(config: LabelConfig, text: str = "") -> list[Region]:
    """A sentence for the annotator in the config's message control; without text, what clears the last one.

    Returns:
        One region, or none where the config has no message control.
    """
    return [message_region(config.message, text)] if config.message else []


def message_region(control: MessageControl, text: str) -> Region:
    """A sentence in a message control; no text at all clears it, an empty one would be drawn."""
    return {
        "id": uuid.uuid4().hex[:10],
        "from_name": control.name,
        "to_name": control.to_name,
        "type": "textarea",
        "value": {"text": [text] if text else []},
    }


def prediction(regions: Sequence[Region], model_version: str) -> dict[str, Any]:
    """One task's prediction; its score is the mean of its regions' scores, 0 without any."""
    scores = {region["id"]: region["score"] for region in regions if "score" in region}
    score = sum(scores.values()) / len(scores) if scores else 0.0
    return {"result": list(regions), "score": score, "model_version": model_version}


def failed_version(model_version: str, code: str, message: str) -> str:
    """A model version that ends in the reason why there is no answer.

    It differs from the version of good answers, so that Label Studio asks for this task again the next time.
    """
    reason = " ".join("".join(character if character.isprintable() else " " for character in message).split())
    if len(reason) > LONGEST_REASON:
        reason = reason[: LONGEST_REASON - 1] + "…"
    return f"{model_version}:{code}: {reason}"


def _parts(value: dict[str, Any], label: str | None, output: Output) -> list[Region]:
    """A shape and its label: one region, or two with one id where a plain control keeps its labels beside it."""
    region_id = uuid.uuid4().hex[:10]
    shape = {"id": region_id, "from_name": output.name, "type": output.kind, "value": value}
    if output.labels_name == output.name:
        return [shape | {"value": value | {output.kind: [label] if label else []}}]
    if label is None or output.labels_name is None:
        return [shape]
    labelled = {"from_name": output.labels_name, "type": "labels", "value": value | {"labels": [label]}}
    return [shape, shape | labelled]
