"""What the predictor answers: masks with scores, nothing of the network in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam3_backend.masks import Mask


@dataclass(frozen=True, slots=True)
class Detection:
    """One instance of a concept.

    Attributes:
        mask: Its pixels.
        box_xyxy_px: The detector's own box in pixels of the picture, sub-pixel, clipped to the picture.
        detection_score: Presence of the concept times confidence in this instance, [0, 1].
    """

    mask: Mask
    box_xyxy_px: tuple[float, float, float, float]
    detection_score: float


@dataclass(frozen=True, slots=True)
class Detections:
    """All instances of a concept in a picture.

    Attributes:
        found: Best first. Empty where the concept is absent: that is an answer, not an error.
        presence_score: How sure the model is that the concept is in the picture at all, [0, 1].
    """

    found: tuple[Detection, ...]
    presence_score: float


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The object that points and a box ask for.

    Attributes:
        masks: One, or three readings of an ambiguous click; best first.
        iou_scores: The model's own estimate of each mask's IoU, [0, 1], same order.
        mask_logits: (k, s, s) float32, same order, clamped to +-32, before holes are filled. ``mask_logits[0]`` can be
            handed back with more points to refine the mask.
    """

    masks: tuple[Mask, ...]
    iou_scores: tuple[float, ...]
    mask_logits: npt.NDArray[np.float32]
