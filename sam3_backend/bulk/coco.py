"""Answers as COCO instances, with compressed run lengths as masks."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from sam3_backend.label_studio.rle import encode_coco

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    from sam3_backend.answer import Answer
    from sam3_backend.bulk.files import Entry

    Predictions = Callable[[int], dict[str, Any] | None]


def coco_prediction(answer: Answer, model_version: str) -> dict[str, Any]:
    """An answer as it is kept until the file is written; boxes are x, y, width, height in pixels."""
    objects = []
    for each in answer.found:
        x1, y1, x2, y2 = each.mask.box_xyxy_px
        objects.append(
            {
                "label": each.label or "object",
                "segmentation": encode_coco(each.mask),
                "area": each.mask.area_px,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": round(each.score, 6),
            }
        )
    size = {"width": answer.width_px, "height": answer.height_px}
    return {**size, "objects": objects, "model_version": model_version}


def write_coco(file: TextIO, entries: Callable[[], Iterable[Entry]], predictions: Predictions) -> None:
    """Write a COCO file; pictures without a prediction are left out of it.

    Args:
        file: Where to.
        entries: Gives the input's tasks, each time it is called.
        predictions: Gives a task's prediction as ``coco_prediction`` made it, by the task's number; or None.
    """
    labels = {each["label"] for _, _, kept in _kept(entries, predictions) for each in kept["objects"]}
    categories = {label: number for number, label in enumerate(sorted(labels), start=1)}
    listed = [{"id": number, "name": label} for label, number in categories.items()]
    file.write(f'{{"info": {{"description": "sam3-backend"}}, "licenses": [], "categories": {json.dumps(listed)}')
    _write_list(file, "images", _images(entries, predictions))
    _write_list(file, "annotations", _annotations(entries, predictions, categories))
    file.write("\n}\n")


def _images(entries: Callable[[], Iterable[Entry]], predictions: Predictions) -> Iterator[dict[str, Any]]:
    for number, name, kept in _kept(entries, predictions):
        yield {"id": number, "file_name": name, "width": kept["width"], "height": kept["height"]}


def _annotations(
    entries: Callable[[], Iterable[Entry]], predictions: Predictions, categories: dict[str, int]
) -> Iterator[dict[str, Any]]:
    counter = itertools.count(1)
    for number, _, kept in _kept(entries, predictions):
        for each in kept["objects"]:
            fields = {name: value for name, value in each.items() if name != "label"}
            category = categories[each["label"]]
            yield {"id": next(counter), "image_id": number, "category_id": category, "iscrowd": 0, **fields}


def _kept(
    entries: Callable[[], Iterable[Entry]], predictions: Predictions
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each picture's number in the file, its name and what was found in it."""
    for number, entry in enumerate(entries(), start=1):
        kept = predictions(entry.task.number)
        if kept is not None:
            yield number, entry.name, kept


def _write_list(file: TextIO, name: str, items: Iterable[dict[str, Any]]) -> None:
    file.write(f',\n"{name}": [')
    for place, each in enumerate(items):
        file.write((",\n" if place else "\n") + json.dumps(each))
    file.write("]")
