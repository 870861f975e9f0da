"""What an answer is, and how it is chosen from what the model finds.

Pure values; knows neither the model nor who asks.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sam3_backend.masks import ScoredMask

CROSS_PROMPT_IOU = 0.5
"""Two prompts of one label that find masks overlapping more than this found the same object."""


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How an answer is chosen from what the model finds.

    Attributes:
        threshold: Least detection score for concepts, [0, 1]; None for the checkpoint's own.
        max_regions: Most objects returned, the best ones; None for all.
        min_area_px: Objects with fewer pixels are left out; an object without pixels always is.
        refine: Whether the mask before the last point is fed back when points are added to an object, as the official
            interactive loop does; False decodes all points at once.
    """

    threshold: float | None = None
    max_regions: int | None = None
    min_area_px: int = 1
    refine: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found in one picture.

    Attributes:
        width_px: Width of the upright picture.
        height_px: Its height.
        found: Objects in the order of the prompts, best first within a prompt.
        timings_ms: Wall time of each stage that ran: ``download``, ``embedding`` (finding it, or making it by
            ``decode`` and ``encode``), ``prompt``. Waiting for the device is part of the stage that waited.
    """

    width_px: int
    height_px: int
    found: tuple[ScoredMask, ...]
    timings_ms: Mapping[str, float] = field(default_factory=dict)


class Timings:
    """Collects the wall time of the stages of one request.

    Args:
        observe: Told each stage's name and its seconds, for metrics.

    Attributes:
        ms: Milliseconds by stage, so far.
    """

    def __init__(self, observe: Callable[[str, float], None]) -> None:
        self._observe = observe
        self.ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as a stage; the same stage twice adds up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed_s = time.perf_counter() - started
            self.ms[name] = self.ms.get(name, 0.0) + 1000 * elapsed_s
            self._observe(name, elapsed_s)


def choose(found: Sequence[ScoredMask], options: AnswerOptions) -> tuple[ScoredMask, ...]:
    """What is returned of what was found: large enough, each object once, the best of too many.

    Returns:
        In the order of the prompts, best first within a prompt.
    """
    chosen: list[ScoredMask] = []
    for candidate in sorted(found, key=lambda each: -each.score):
        if candidate.mask.area_px >= max(1, options.min_area_px) and not _was_found_already(candidate, chosen):
            chosen.append(candidate)
    return tuple(sorted(chosen[: options.max_regions], key=lambda each: each.prompt_index))


def _was_found_already(candidate: ScoredMask, better: Sequence[ScoredMask]) -> bool:
    """Whether another concept prompt of the same label found this object with a better score.

    Objects of one prompt never suppress each other here: what one prompt finds is the predictor's answer.
    """
    return candidate.score_kind == "detection_score" and any(
        each.label == candidate.label
        and each.prompt_index != candidate.prompt_index
        and each.score_kind == "detection_score"
        and candidate.mask.iou(each.mask) > CROSS_PROMPT_IOU
        for each in better
    )
