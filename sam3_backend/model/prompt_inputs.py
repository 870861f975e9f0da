"""Prompts of the public API, checked and in one shape.

Array-likes in pixels of the picture come in; float32 arrays in the frame a head reads go out. A value that cannot be
meant raises ``InvalidPrompt`` with a sentence for the person who sent it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sam3_backend.errors import InvalidPrompt

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    IntArray = npt.NDArray[np.int64]

_EDGE_PX = 1e-3  # a coordinate on the very edge may come out of a division a hair beyond it


def logit_of(probability: float) -> float:
    """The logit of a mask threshold.

    Args:
        probability: Strictly between 0 and 1.

    Raises:
        InvalidPrompt: It is not.
    """
    if not 0 < probability < 1:
        raise InvalidPrompt("A mask threshold lies between 0 and 1; neither 0 nor 1 cuts anything out.")
    return math.log(probability / (1 - probability))


def labelled_points(points: npt.ArrayLike, picture_hw: tuple[int, int]) -> tuple[FloatArray, IntArray]:
    """Points and their labels.

    Args:
        points: (n, 2) XY in pixels of the picture, or (n, 3) with a 1/0 label.
        picture_hw: (height, width) of the picture in pixels.

    Returns:
        (n, 2) float32 XY as fractions of the picture, (n,) int64 labels.

    Raises:
        InvalidPrompt: Wrong shape, not a number, outside the picture, or a label that is neither 1 nor 0.
    """
    rows, labels = _labelled(points, 2, "A point is (x, y) or (x, y, label)")
    return _fractions(rows, picture_hw, "point"), labels


def labelled_boxes(boxes: npt.ArrayLike, picture_hw: tuple[int, int]) -> tuple[FloatArray, IntArray]:
    """Boxes and their labels.

    Args:
        boxes: (n, 4) xyxy in pixels of the picture, or (n, 5) with a 1/0 label.
        picture_hw: (height, width) of the picture in pixels.

    Returns:
        (n, 4) float32 xyxy as fractions of the picture, (n,) int64 labels.

    Raises:
        InvalidPrompt: Wrong shape, not a number, outside the picture, no area, or a label that is neither 1 nor 0.
    """
    rows, labels = _labelled(boxes, 4, "A box is (x1, y1, x2, y2), an exemplar may have a label behind")
    if (rows[:, 2] <= rows[:, 0]).any() or (rows[:, 3] <= rows[:, 1]).any():
        raise InvalidPrompt(
            "A box needs a width and a height: its second corner must lie right of and below its first."
        )
    return _fractions(rows, picture_hw, "box"), labels


def one_box(box: npt.ArrayLike, picture_hw: tuple[int, int]) -> FloatArray:
    """The box around one object.

    Args:
        box: (4,) xyxy in pixels of the picture.
        picture_hw: (height, width) of the picture in pixels.

    Returns:
        (1, 4) float32 xyxy as fractions of the picture.

    Raises:
        InvalidPrompt: As ``labelled_boxes``; or more than one box.
    """
    boxes, _ = labelled_boxes(box, picture_hw)
    if len(boxes) != 1:
        raise InvalidPrompt("One box asks for one object: send the others one by one.")
    return boxes


def previous_logits(mask_logits: npt.ArrayLike, low_res_size_px: int) -> FloatArray:
    """Mask logits to refine.

    Args:
        mask_logits: (s, s) or (1, s, s), as ``Segmentation.mask_logits`` holds them.
        low_res_size_px: s.

    Returns:
        (s, s) float32.

    Raises:
        InvalidPrompt: Another shape, or not numbers.
    """
    try:
        logits = np.asarray(mask_logits, dtype=np.float32)
    except (TypeError, ValueError) as fault:
        raise InvalidPrompt("Mask logits must be an array of numbers.") from fault
    side = low_res_size_px
    if logits.shape not in ((side, side), (1, side, side)) or not np.isfinite(logits).all():
        raise InvalidPrompt(f"Mask logits must be finite numbers of shape ({side}, {side}), from an earlier answer.")
    return logits.reshape(side, side)


def to_cxcywh(boxes_xyxy: FloatArray) -> FloatArray:
    """(n, 4) xyxy to centre, width and height."""
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    boxes: FloatArray = np.concatenate([(low + high) / 2, high - low], axis=1)
    return boxes


def _labelled(values: npt.ArrayLike, width: int, shape: str) -> tuple[npt.NDArray[np.float64], IntArray]:
    try:
        rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError) as fault:
        raise InvalidPrompt(f"{shape}, all numbers.") from fault
    if rows.ndim != 2 or rows.shape[1] not in (width, width + 1) or not len(rows):
        raise InvalidPrompt(f"{shape}; an array of shape {np.shape(values)} is neither.")
    if not np.isfinite(rows).all():
        raise InvalidPrompt("A coordinate is not a number.")
    labels = rows[:, width] if rows.shape[1] > width else np.ones(len(rows))
    if not ((labels == 0) | (labels == 1)).all():
        raise InvalidPrompt("A label is 1 (this) or 0 (not this).")
    return rows[:, :width], labels.astype(np.int64)


def _fractions(rows: npt.NDArray[np.float64], picture_hw: tuple[int, int], what: str) -> FloatArray:
    height, width = picture_hw
    limits = np.tile([width, height], rows.shape[1] // 2)
    if (rows < -_EDGE_PX).any() or (rows > limits + _EDGE_PX).any():
        raise InvalidPrompt(f"A {what} lies outside the picture of {width} x {height} pixels.")
    fractions: FloatArray = (rows / limits).clip(0, 1).astype(np.float32)
    return fractions
