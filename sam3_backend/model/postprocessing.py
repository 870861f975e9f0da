"""From mask logits in the network's square to masks of the picture.

Gives exactly the pixels that bilinear interpolation over the whole picture and a threshold at zero would give, but
looks only where a logit is positive, one mask and a band of rows at a time: no picture-sized float buffer exists.
Pure numpy.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sam3_backend.masks import Mask, small_holes

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    IndexArray = npt.NDArray[np.int64]

LOGIT_LIMIT = 32.0
"""Mask logits that are fed back are clamped to this, as in Meta's code."""

HOLE_AREA = 256
HOLE_AREA_AT = 288
HOLE_LOGIT = 10.0
"""Meta's click predictor fills holes of at most 256 of 288 x 288 pixels by this logit."""

_BAND_PIXELS = 1 << 19


def fill_holes(logits: FloatArray) -> FloatArray:
    """Close small holes, as Meta's click predictor does before it upsamples.

    Args:
        logits: (s, s) float32.

    Returns:
        (s, s) float32, a new array where holes of at most 256 px at 288 x 288 (scaled to s) have a positive logit.
    """
    side = logits.shape[0]
    limit = round(HOLE_AREA * (side / HOLE_AREA_AT) ** 2)
    return np.where(small_holes(logits > 0, limit), np.float32(HOLE_LOGIT), logits)


def to_mask(logits: FloatArray, picture_hw: tuple[int, int]) -> Mask:
    """Bring one mask to the picture's size.

    Args:
        logits: (h, w) float32, positive on the object.
        picture_hw: (height, width) of the picture in pixels.
    """
    positive = logits > 0
    rows = _interpolation(logits.shape[0], picture_hw[0], np.flatnonzero(positive.any(axis=1)))
    columns = _interpolation(logits.shape[1], picture_hw[1], np.flatnonzero(positive.any(axis=0)))
    if rows is None or columns is None:
        return Mask(crop=np.zeros((0, 0), np.bool_), origin_xy_px=(0, 0), picture_hw=picture_hw)
    (y, top, bottom, down), (x, left, right, across) = rows, columns
    first = top[0]
    wide = _between(logits[first : bottom[-1] + 1], left, right, across, axis=1)
    top, bottom, down = top - first, bottom - first, down[:, None]
    crop = np.empty((len(top), len(left)), np.bool_)
    band = max(1, _BAND_PIXELS // len(left))
    for start in range(0, len(top), band):
        part = slice(start, start + band)
        np.greater(_between(wide, top[part], bottom[part], down[part], axis=0), 0, out=crop[part])
    return Mask(crop=crop, origin_xy_px=(x, y), picture_hw=picture_hw)


def _between(values: FloatArray, lower: IndexArray, upper: IndexArray, weight: FloatArray, *, axis: int) -> FloatArray:
    """Values between the lines ``lower`` and ``upper`` of an axis, ``weight`` of the way to the upper one."""
    # numpy takes whole lines six times as fast by ``take`` as by indexing.
    low, high = values.take(lower, axis=axis), values.take(upper, axis=axis)
    low *= 1 - weight
    high *= weight
    low += high
    return low


def _interpolation(
    source_px: int, target_px: int, lines: IndexArray
) -> tuple[int, IndexArray, IndexArray, FloatArray] | None:
    """Bilinear weights along one axis, only for target pixels that touch a positive source line.

    Args:
        source_px: Length of the axis in the logits.
        target_px: Its length in the picture.
        lines: Source lines with a positive logit, ascending.

    Returns:
        First target pixel, lower source index, upper source index, weight of the upper one; None if nothing is
        positive.
    """
    if not len(lines):
        return None
    lower, upper, weight = _weights(source_px, target_px)
    # Both grow along the axis: a target pixel touches what lies between its two lines.
    near = slice(int(np.searchsorted(upper, lines[0])), int(np.searchsorted(lower, lines[-1], side="right")))
    return near.start, lower[near], upper[near], weight[near]


@lru_cache(maxsize=64)
def _weights(source_px: int, target_px: int) -> tuple[IndexArray, IndexArray, FloatArray]:
    """Lower and upper source index of each target pixel along one axis, and the weight of the upper one.

    The arithmetic is torch's (``align_corners=False``) in the same float32 steps.
    """
    scale = np.float32(source_px) / np.float32(target_px)
    centre = scale * (np.arange(target_px, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    centre = np.maximum(centre, np.float32(0))
    lower = np.minimum(centre.astype(np.int64), source_px - 1)
    weight = np.clip(centre - lower.astype(np.float32), 0, 1).astype(np.float32)
    return lower, np.minimum(lower + 1, source_px - 1), weight
