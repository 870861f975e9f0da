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
from sam3_backend.model.postprocessing import LOGIT_LIMIT, fill_holes, to_mask
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
        cut: Pixels with a higher logit belong to the object.
    """

    embedding: Embedding
    prompt: ClickPrompt
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
        self._architecture = architecture

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
        cut, size_px = logit_of(mask_threshold), self._architecture.low_res_size_px
        prompt = ClickPrompt.checked(points, box, mask_logits, multimask, embedding.picture_hw, size_px)
        return Click(embedding, prompt, cut)

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
                found = _in_one_pass(self._head, [clicks[each] for each in indices], self._architecture.input_size_px)
                answers.update(zip(indices, found, strict=True))
        return [answers[index] for index in range(len(clicks))]


def _in_one_pass(head: ClickHead, clicks: Sequence[Click], frame_px: int) -> list[Segmentation]:
    features = [
        _joined([cast("torch.Tensor", each.embedding.tensors[name]) for each in clicks]) for name in CLICK_FEATURES
    ]

    device, prompts = features[0].device, [each.prompt for each in clicks]
    refined = [each.mask_logits for each in prompts if each.mask_logits is not None]
    masks, iou_scores = head(
        features,
        torch.from_numpy(np.stack([each.marks for each in prompts]) * np.float32(frame_px)).to(device),
        torch.from_numpy(np.stack([each.kinds for each in prompts])).to(device),
        torch.from_numpy(np.stack(refined)).to(device) if refined else None,
        multimask=prompts[0].multimask,
    )
    logits, scores = masks.cpu().numpy(), iou_scores.cpu().numpy()
    return [
        _segmentation(click, found[order], tuple(rated[order].tolist()))
        for click, found, rated in zip(clicks, logits, scores, strict=True)
        for order in [np.argsort(-rated, kind="stable")]
    ]


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _segmentation(click: Click, logits: FloatArray, iou_scores: tuple[float, ...]) -> Segmentation:
    return Segmentation(
        masks=Drawings(partial(_draw, each, click.cut, click.embedding.picture_hw) for each in logits),
        iou_scores=iou_scores,
        mask_logits=logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT),
    )


def _draw(logits: FloatArray, cut: float, picture_hw: tuple[int, int]) -> Mask:
    return to_mask(fill_holes(logits - cut), picture_hw)
