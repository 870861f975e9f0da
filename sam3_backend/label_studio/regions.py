"""Answers, written as Label Studio's predictions and regions: JSON out.

Does not know how an answer came about, nor HTTP. How each kind of output control is written stands in one table.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sam3_backend.label_studio.rle import encode_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sam3_backend.answer import Answer
    from sam3_backend.label_studio.label_config import LabelConfig, Output
    from sam3_backend.masks import ScoredMask

Region = dict[str, Any]

LONGEST_REASON = 300
"""Characters of a reason that fit a column of the Data Manager."""


def answer_regions(answer: Answer, config: LabelConfig) -> list[Region]:
    """The regions of an answer, in its order; a labelled mask of a plain ``Brush`` takes two.

    Each has the size of the upright picture itself: the page breaks where a mask does not fit its picture.
    """
    regions: list[Region] = []
    for found in answer.found:
        output = config.output_for(found.label)
        frame = {
            "id": uuid.uuid4().hex[:10],
            "to_name": config.image_name,
            "original_width": answer.width_px,
            "original_height": answer.height_px,
            "image_rotation": 0,
            "score": round(found.score, 6),
        }
        regions += [frame | part for part in _WRITERS[output.kind](found, output)]
    return regions


def message_regions(config: LabelConfig, text: str = "") -> list[Region]:
    """A sentence for the annotator in the config's message control; without text, what clears the last one.

    Returns:
        One region, or none where the config has no message control.
    """
    if config.message is None:
        return []
    message = {
        "id": uuid.uuid4().hex[:10],
        "from_name": config.message.name,
        "to_name": config.message.to_name,
        "type": "textarea",
        "value": {"text": [text] if text else []},
    }
    return [message]


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


def _brush_labels(found: ScoredMask, output: Output) -> list[Region]:
    value = {"format": "rle", "rle": encode_mask(found.mask), "brushlabels": [found.label] if found.label else []}
    return [{"from_name": output.name, "type": "brushlabels", "value": value}]


def _brush(found: ScoredMask, output: Output) -> list[Region]:
    value = {"format": "rle", "rle": encode_mask(found.mask)}
    regions: list[Region] = [{"from_name": output.name, "type": "brush", "value": value}]
    if found.label and output.labels_name:
        # The label of a plain tool is a region of its own, with the same id and the same value.
        labelled = {"from_name": output.labels_name, "type": "labels", "value": value | {"labels": [found.label]}}
        regions.append(labelled)
    return regions


_WRITERS: dict[str, Callable[[ScoredMask, Output], list[Region]]] = {
    "brushlabels": _brush_labels,
    "brush": _brush,
}
