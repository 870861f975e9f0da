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
        mask_threshold: Least probability with which a pixel belongs to an object, (0, 1).
        nms_iou: Of two objects of one label that concept prompts find and that overlap by more than this IoU, the
            worse is dropped. None: 0.5 between prompts, and what one prompt finds is left as the predictor found it.
        max_regions: Most objects returned, the best ones; None for all.
        min_area_px: Objects with fewer pixels are left out; an object without pixels always is.
        min_area_fraction: Objects that cover a smaller share of the picture are left out, [0, 1].
        multimask: Whether a click's best of three masks is taken, or the one mask that the model gives for certain
            prompts; None for the official rule: the best of three for a single click.
        is_known: Says of an object that a concept prompt found whether the person asking has it already; such objects
            are left out. None: nothing is known.
        refine: Whether the mask before the last point is fed back when points are added to an object, as the official
            interactive loop does; False decodes all points at once.
    """

    threshold: float | None = None
    mask_threshold: float = 0.5
    nms_iou: float | None = None
    max_regions: int | None = None
    min_area_px: int = 1
    min_area_fraction: float = 0.0
    multimask: bool | None = None
    is_known: Callable[[ScoredMask], bool] | None = None
    refine: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found in one picture.

    Attributes:
        width_px: Width of the upright picture.
        height_px: Its height.
        found: Objects in the order of the prompts, best first within a prompt.
        left_out: How many more there are, left out because there were more than ``AnswerOptions.max_regions``.
        known: How many were left out because the person asking has them already.
        timings_ms: Wall time of each stage that ran: ``download``, ``embedding`` (finding it, or making it by
            ``decode`` and ``encode``), ``prompt``. Waiting for the device is part of the stage that waited.
    """

    width_px: int
    height_px: int
    found: tuple[ScoredMask, ...]
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    left_out: int = 0
    known: int = 0


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


@dataclass(frozen=True, slots=True)
class Choice:
    """What is returned of what was found, and how much is not; the fields are those of ``Answer``."""

    found: tuple[ScoredMask, ...]
    left_out: int
    known: int


def choose(found: Sequence[ScoredMask], picture_hw: tuple[int, int], options: AnswerOptions) -> Choice:
    """What is returned of what was found: large enough, each object once, not known yet, the best of too many.

    Args:
        found: Objects in any order.
        picture_hw: (height, width) of the picture in pixels.
        options: How to choose.

    Returns:
        The objects in the order of the prompts, best first within a prompt.
    """
    least_px = max(1.0, options.min_area_px, options.min_area_fraction * picture_hw[0] * picture_hw[1])
    chosen: list[ScoredMask] = []
    for candidate in sorted(found, key=lambda each: -each.score):
        if candidate.mask.area_px >= least_px and not _was_found_already(candidate, chosen, options.nms_iou):
            chosen.append(candidate)
    new = [each for each in chosen if not _is_known(each, options)]
    returned = new[: options.max_regions]
    return Choice(
        found=tuple(sorted(returned, key=lambda each: each.prompt_index)),
        left_out=len(new) - len(returned),
        known=len(chosen) - len(new),
    )


def _is_known(candidate: ScoredMask, options: AnswerOptions) -> bool:
    """Whether it need not be returned. Who clicks on an object wants it, whatever there is already."""
    if options.is_known is None or candidate.score_kind != "detection_score":
        return False
    return options.is_known(candidate)


def _was_found_already(candidate: ScoredMask, better: Sequence[ScoredMask], nms_iou: float | None) -> bool:
    """Whether a concept prompt of the same label found this object with a better score.

    Unless a limit is given, objects of one prompt never suppress each other here: what one prompt finds is the
    predictor's answer.
    """
    limit = CROSS_PROMPT_IOU if nms_iou is None else nms_iou
    return candidate.score_kind == "detection_score" and any(
        each.label == candidate.label
        and (nms_iou is not None or each.prompt_index != candidate.prompt_index)
        and each.score_kind == "detection_score"
        and candidate.mask.iou(each.mask) > limit
        for each in better
    )
