"""Answering points and boxes: the one object they ask for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from sam3_backend.errors import InvalidPrompt
from sam3_backend.model.answers import Drawings, Segmentation
from sam3_backend.model.device import answering
from sam3_backend.model.postprocessing import fill_holes, to_mask
from sam3_backend.model.prompt_inputs import labelled_points, logit_of, one_box, previous_logits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sam3_backend.embeddings.embedding import Embedding
    from sam3_backend.masks import Mask
    from sam3_backend.model.architecture import Architecture
    from sam3_backend.model.click_head import ClickHead
    from sam3_backend.model.pace import Pace

    FloatArray = npt.NDArray[np.float32]

CLICK_FEATURES = ("click_fine", "click_middle", "click_coarse")
"""Names of the click decoder's tensors in an embedding, finest first."""

CALLS_TO_BE_WARM = 2
"""On a CPU the first call of a kind is recorded, and the recording put in order by the second."""

TOP_LEFT, BOTTOM_RIGHT = 2, 3
"""Kinds of marks besides points, as the prompt encoder numbers them."""


@dataclass(frozen=True, slots=True)
class ClickPrompt:
    """One question to the click decoder, checked.

    Attributes:
        marks: (p, 2) float32 XY, fractions of the picture: points, and behind them the corners of a box.
        kinds: (p,) int64: a point beside the object 0, one on it 1, a box's top left corner 2, its other one 3.
        mask_logits: (s, s) float32 logits to refine, or None.
        multimask: Three masks instead of one.
    """

    marks: FloatArray
    kinds: npt.NDArray[np.int64]
    mask_logits: FloatArray | None
    multimask: bool

    @classmethod
    def checked(
        cls,
        points: npt.ArrayLike | None,
        box: npt.ArrayLike | None,
        mask_logits: npt.ArrayLike | None,
        multimask: bool | None,
        picture_hw: tuple[int, int],
        low_res_size_px: int,
    ) -> ClickPrompt:
        """What ``Predictor.segment`` was given, in one shape.

        Raises:
            InvalidPrompt: No prompt, or one that is out of range.
        """
        if points is None and box is None:
            raise InvalidPrompt("A point or a box is needed.")
        marks, kinds = [], []
        if points is not None:
            xy, labels = labelled_points(points, picture_hw)
            marks.append(xy)
            kinds.append(labels)
        if box is not None:
            marks.append(one_box(box, picture_hw).reshape(2, 2))
            kinds.append(np.array([TOP_LEFT, BOTTOM_RIGHT]))
        logits = None if mask_logits is None else previous_logits(mask_logits, low_res_size_px)
        all_marks, all_kinds = np.concatenate(marks), np.concatenate(kinds)
        if multimask is None:  # the official rule: a lone click is ambiguous
            multimask = len(all_kinds) == 1 and logits is None
        return cls(all_marks, all_kinds, logits, multimask)

    @property
    def kind(self) -> tuple[int, bool, bool]:
        """The same for prompts that fit into one pass."""
        return len(self.marks), self.mask_logits is None, self.multimask


@dataclass(frozen=True, slots=True)
class Click:
    """One question about one picture.

    Attributes:
        embedding: Of the picture, with ``CLICK_FEATURES``.
        prompt: What is asked.
        tensors: The same for the decoder, on the CPU: see ``ClickHead.forward``.
        cut: Pixels with a higher logit belong to the object.
    """

    embedding: Embedding
    prompt: ClickPrompt
    tensors: Sequence[torch.Tensor]
    cut: float


class Clicks:
    """The click decoder of one predictor.

    Args:
        head: Loaded; None where the checkpoint has none.
        name: The checkpoint's name, for messages.
        pace: How the device is used.
        architecture: Dimensions.
    """

    def __init__(self, head: ClickHead | None, name: str, pace: Pace, architecture: Architecture) -> None:
        self._head = head
        self._name = name
        self._pace = pace
        self._frame_px, self._low_res_size_px = architecture.input_size_px, architecture.low_res_size_px

    def question(
        self,
        embedding: Embedding,
        points: npt.ArrayLike | None,
        box: npt.ArrayLike | None,
        mask_logits: npt.ArrayLike | None,
        multimask: bool | None,
        mask_threshold: float,
    ) -> Click:
        """What ``Predictor.segment`` is given, checked without the device.

        Raises:
            InvalidPrompt: No prompt, or one that is out of range.
        """
        cut = logit_of(mask_threshold)
        prompt = ClickPrompt.checked(points, box, mask_logits, multimask, embedding.picture_hw, self._low_res_size_px)
        arrays = [prompt.marks * np.float32(self._frame_px), prompt.kinds]
        if prompt.mask_logits is not None:
            arrays.append(prompt.mask_logits)
        return Click(embedding, prompt, [torch.tensor(each[None]) for each in arrays], cut)

    def warm_up(self, embedding: Embedding) -> None:
        """Answer clicks of every kind and number, so that nobody waits for what is done once."""
        for mask_logits in (None, np.zeros((self._low_res_size_px, self._low_res_size_px), np.float32)):
            for multimask in (True, False):
                click = self.question(embedding, [(1, 1)], None, mask_logits, multimask, 0.5)
                for count in range(1, self._pace.clicks_at_once + 1):
                    for _ in range(CALLS_TO_BE_WARM):
                        self.answer([click] * count)

    def answer(self, clicks: Sequence[Click]) -> list[Segmentation]:
        """Answer questions about any pictures; those with prompts of the same kinds and numbers in one pass.

        Args:
            clicks: The questions.

        Returns:
            One answer a question, in order; what each would be on its own, up to rounding.

        Raises:
            InvalidPrompt: There is no click decoder.
            ModelError: The model failed.
        """
        if self._head is None:
            raise InvalidPrompt(f"The checkpoint {self._name} has no click decoder: use text or exemplars.")
        alike: defaultdict[object, list[int]] = defaultdict(list)
        for index, click in enumerate(clicks):
            alike[click.prompt.kind].append(index)
        answers: dict[int, Segmentation] = {}
        with answering("looking for the object"), self._pace.clicking():
            for indices in alike.values():
                found = _in_one_pass(self._head, [clicks[each] for each in indices])
                answers.update(zip(indices, found, strict=True))
        return [answers[index] for index in range(len(clicks))]


def _in_one_pass(head: ClickHead, clicks: Sequence[Click]) -> list[Segmentation]:
    features = [[cast("torch.Tensor", each.embedding.tensors[name]) for name in CLICK_FEATURES] for each in clicks]
    masks, iou_scores = head(features, [each.tensors for each in clicks], multimask=clicks[0].prompt.multimask)
    return [
        _segmentation(click, logits, rated)
        for click, logits, rated in zip(clicks, masks.numpy(), iou_scores.tolist(), strict=True)
    ]


def _segmentation(click: Click, logits: FloatArray, iou_scores: list[float]) -> Segmentation:
    best_first = sorted(range(len(iou_scores)), key=lambda each: -iou_scores[each])
    decoded = [logits[each] for each in best_first]
    return Segmentation(
        masks=Drawings(partial(_draw, each, click.cut, click.embedding.picture_hw) for each in decoded),
        iou_scores=tuple(iou_scores[each] for each in best_first),
        decoded=decoded,
    )


def _draw(logits: FloatArray, cut: float, picture_hw: tuple[int, int]) -> Mask:
    return to_mask(fill_holes(logits - cut), picture_hw)
