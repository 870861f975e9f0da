"""Answering points and boxes: the one object they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import torch

from sam3_backend.errors import InvalidPrompt
from sam3_backend.model.answers import Drawings, Segmentation
from sam3_backend.model.postprocessing import LOGIT_LIMIT, fill_holes, to_mask
from sam3_backend.model.prompt_inputs import labelled_points, one_box, previous_logits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam3_backend.embeddings.embedding import Embedding
    from sam3_backend.masks import Mask
    from sam3_backend.model.click_head import ClickHead

    FloatArray = npt.NDArray[np.float32]

CLICK_FEATURES = ("click_fine", "click_middle", "click_coarse")
"""Names of the click decoder's tensors in an embedding, finest first."""


@dataclass(frozen=True, slots=True)
class ClickPrompt:
    """One question to the click decoder, checked.

    Attributes:
        points: (p, 2) float32 XY, fractions of the picture; None without points.
        labels: (p,) int64, 1 on the object, 0 beside it.
        box: (1, 4) float32 xyxy, fractions of the picture; None without a box.
        mask_logits: (s, s) float32 logits to refine, or None.
        multimask: Three masks instead of one.
    """

    points: FloatArray | None
    labels: npt.NDArray[np.int64] | None
    box: FloatArray | None
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
        xy, labels = (None, None) if points is None else labelled_points(points, picture_hw)
        xyxy = None if box is None else one_box(box, picture_hw)
        logits = None if mask_logits is None else previous_logits(mask_logits, low_res_size_px)
        if multimask is None:  # the official rule: a lone click is ambiguous
            multimask = xy is not None and len(xy) == 1 and xyxy is None and logits is None
        return cls(xy, labels, xyxy, logits, multimask)


def segment(head: ClickHead, embedding: Embedding, prompt: ClickPrompt, *, frame_px: int, cut: float) -> Segmentation:
    """Answer one prompt.

    Args:
        head: The decoder.
        embedding: Of the picture, with ``CLICK_FEATURES``.
        prompt: The question.
        frame_px: Side of the square frame that the decoder counts coordinates in.
        cut: Pixels with a higher logit belong to the object.
    """
    features = [cast("torch.Tensor", embedding.tensors[name]) for name in CLICK_FEATURES]

    def tensor(values: npt.NDArray[np.generic] | None) -> torch.Tensor | None:
        # A copy: logits that are handed back may be read-only.
        return None if values is None else torch.tensor(values, device=features[0].device)[None]

    points, labels, box, logits = map(tensor, (prompt.points, prompt.labels, prompt.box, prompt.mask_logits))
    masks, iou_scores = head(
        features,
        None if points is None else points * frame_px,
        labels,
        None if box is None else box[0] * frame_px,
        logits,
        multimask=prompt.multimask,
    )
    order = iou_scores[0].argsort(descending=True, stable=True)
    found = masks[0, order].cpu().numpy()
    return Segmentation(
        masks=Drawings(partial(_draw, each, cut, embedding.picture_hw) for each in found),
        iou_scores=tuple(iou_scores[0, order].tolist()),
        mask_logits=found.clip(-LOGIT_LIMIT, LOGIT_LIMIT),
    )


def _draw(logits: FloatArray, cut: float, picture_hw: tuple[int, int]) -> Mask:
    return to_mask(fill_holes(logits - cut), picture_hw)
