"""Nouns of a bulk run: a task to do, what came of it, and what does one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sam3_backend.answer import Answer
    from sam3_backend.label_studio.label_config import LabelConfig
    from sam3_backend.label_studio.predictions import Predictions


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        number: Label Studio's number of it; elsewhere its place in the input, from 1.
        data: Its data: the picture's address, and what else it has.
    """

    number: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One object of an answer, as statistics want it.

    Attributes:
        label: Its label, empty without one.
        score: [0, 1].
        area_share: The share of the picture that it covers, [0, 1].
    """

    label: str
    score: float
    area_share: float


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a prediction lies that was kept by whoever made it.

    Attributes:
        shard: The name of one of the run's shards.
        at_byte: Where its line begins.
    """

    shard: str
    at_byte: int


@dataclass(frozen=True, slots=True)
class Done:
    """A task with its prediction.

    Attributes:
        task: The task.
        prediction: Its prediction, as Label Studio stores it; empty where it was kept elsewhere.
        found: The objects in it.
        took_s: Wall time from the first stage to the last, in seconds.
        kept: Where its prediction is, if that is not here.
    """

    task: Task
    prediction: Mapping[str, Any]
    found: tuple[FoundObject, ...] = ()
    took_s: float = 0.0
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A task without a prediction.

    Attributes:
        task: The task.
        code: The fault's name, for counting.
        message: The fault, for people.
    """

    task: Task
    code: str
    message: str = field(default="")


def found_objects(answer: Answer) -> tuple[FoundObject, ...]:
    """The objects of an answer, as statistics want them."""
    area_px = max(1, answer.width_px * answer.height_px)
    return tuple(FoundObject(each.label or "", each.score, each.mask.area_px / area_px) for each in answer.found)


def predicting(
    predictions: Predictions, config: LabelConfig, rewrite: Callable[[Answer], dict[str, Any]] | None = None
) -> Callable[[Task], Done]:
    """What predicts one task by the labels of a config.

    Args:
        predictions: Predicts.
        config: What is looked for.
        rewrite: Makes the prediction of the answer, where it is not to be Label Studio's.
    """

    def predict(task: Task) -> Done:
        began_s = time.perf_counter()
        prediction, answer = predictions.predict_by_labels({"id": task.number, "data": task.data}, config)
        if rewrite is not None:
            prediction = rewrite(answer)
        return Done(task, prediction, found_objects(answer), time.perf_counter() - began_s)

    return predict
