"""Masks of one picture: where an object is, kept as small as its own extent.

A mask of a small object in a 4000 x 3000 picture needs a few kilobytes, not twelve megabytes: only the crop that holds
its pixels is stored. Pure numpy (and OpenCV for components); knows neither the model nor any wire format.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    BoolArray = npt.NDArray[np.bool_]

ScoreKind = Literal["detection_score", "iou_score"]


@dataclass(frozen=True)
class Mask:
    """The pixels of one object in a picture.

    Attributes:
        crop: (h, w) bool, read-only. Pixels outside the crop are not part of the object.
        origin_xy_px: (x, y) of the crop's top left pixel in the picture.
        picture_hw: (height, width) of the upright picture in pixels.
    """

    crop: BoolArray
    origin_xy_px: tuple[int, int]
    picture_hw: tuple[int, int]

    def __post_init__(self) -> None:
        (x, y), (h, w), (height, width) = self.origin_xy_px, self.crop.shape, self.picture_hw
        if x < 0 or y < 0 or x + w > width or y + h > height:
            raise ValueError(f"crop {w}x{h} at ({x}, {y}) leaves the {width}x{height} picture")
        self.crop.setflags(write=False)

    @classmethod
    def from_array(cls, mask: BoolArray) -> Mask:
        """The mask of a whole picture.

        Args:
            mask: (height, width) bool.
        """
        x1, y1, x2, y2 = _bounds(mask)
        return cls(crop=mask[y1:y2, x1:x2].copy(), origin_xy_px=(x1, y1), picture_hw=(mask.shape[0], mask.shape[1]))

    def to_array(self) -> BoolArray:
        """The mask over the whole picture, (height, width) bool."""
        full = np.zeros(self.picture_hw, dtype=np.bool_)
        x, y = self.origin_xy_px
        full[y : y + self.crop.shape[0], x : x + self.crop.shape[1]] = self.crop
        return full

    @cached_property
    def area_px(self) -> int:
        """How many pixels belong to the object."""
        return int(np.count_nonzero(self.crop))

    @cached_property
    def box_xyxy_px(self) -> tuple[int, int, int, int]:
        """Tightest box around the pixels, right and bottom edge exclusive; all zeros for an empty mask."""
        x1, y1, x2, y2 = _bounds(self.crop)
        if x2 <= x1:
            return 0, 0, 0, 0
        x, y = self.origin_xy_px
        return x + x1, y + y1, x + x2, y + y2

    def intersection_px(self, other: Mask) -> int:
        """How many pixels the two masks share."""
        (ax, ay), (bx, by) = self.origin_xy_px, other.origin_xy_px
        x1, y1 = max(ax, bx), max(ay, by)
        x2 = min(ax + self.crop.shape[1], bx + other.crop.shape[1])
        y2 = min(ay + self.crop.shape[0], by + other.crop.shape[0])
        if x2 <= x1 or y2 <= y1:
            return 0
        a = self.crop[y1 - ay : y2 - ay, x1 - ax : x2 - ax]
        b = other.crop[y1 - by : y2 - by, x1 - bx : x2 - bx]
        return int(np.count_nonzero(a & b))

    def iou(self, other: Mask) -> float:
        """Intersection over union, [0, 1]; 0 where both are empty."""
        shared = self.intersection_px(other)
        union = self.area_px + other.area_px - shared
        return shared / union if union else 0.0

    def transitions(self) -> npt.NDArray[np.int64]:
        """Where the picture, read row by row, enters and leaves the object.

        Returns:
            (2 n,) int64, strictly increasing indices into the flattened picture: even entries are the first pixel of a
            run of the object, odd entries the first pixel behind it. Runs that touch across a row's end are one run.
        """
        w, (x, y), picture_w = self.crop.shape[1], self.origin_xy_px, self.picture_hw[1]
        if not self.crop.size:
            return np.zeros(0, dtype=np.int64)
        # One pass over the crop as a single row: numpy finds changes in one dimension many times as fast as in two.
        single_row = np.ascontiguousarray(self.crop).reshape(-1)
        changes = np.flatnonzero(single_row[1:] != single_row[:-1]) + 1
        if w == picture_w:
            first, last = np.flatnonzero(single_row[:1]), np.flatnonzero(single_row[-1:]) + single_row.size
            return np.concatenate([first, changes, last]) + y * picture_w
        rows, columns = np.divmod(changes, w)
        is_inner = columns != 0
        inner = rows[is_inner] * picture_w + columns[is_inner]
        entered = np.flatnonzero(self.crop[:, 0]) * picture_w
        left = np.flatnonzero(self.crop[:, -1]) * picture_w + w
        return np.sort(np.concatenate([entered, inner, left]), kind="stable") + (y * picture_w + x)


@dataclass(frozen=True, slots=True)
class ScoredMask:
    """One object found in a picture.

    Attributes:
        mask: Its pixels.
        box_xyxy_px: Its box in pixels, sub-pixel floats: the detector's own box, or the mask's for clicks.
        score: [0, 1]; what it measures is said by ``score_kind``.
        score_kind: ``detection_score`` (detector) or ``iou_score`` (the click decoder's own estimate of its IoU).
        label: The label the prompt carried.
        prompt_index: Which of the request's prompt sets it answers.
    """

    mask: Mask
    box_xyxy_px: tuple[float, float, float, float]
    score: float
    score_kind: ScoreKind
    label: str | None = None
    prompt_index: int = 0


def suppress_duplicates(found: Sequence[ScoredMask], max_iou: float) -> list[ScoredMask]:
    """Greedy non-maximum suppression on masks.

    Args:
        found: Objects in any order.
        max_iou: An object whose mask overlaps a better one by more than this IoU is dropped.

    Returns:
        The survivors, best score first.
    """
    kept: list[ScoredMask] = []
    for candidate in sorted(found, key=lambda each: -each.score):
        if all(candidate.mask.iou(better.mask) <= max_iou for better in kept):
            kept.append(candidate)
    return kept


def small_holes(foreground: BoolArray, max_area_px: int) -> BoolArray:
    """Background components small enough to be holes, as official SAM 3 fills them.

    Args:
        foreground: (h, w) bool.
        max_area_px: Components of at most this many pixels count.

    Returns:
        (h, w) bool, True in every 8-connected background component of at most ``max_area_px`` pixels.
    """
    x1, y1, x2, y2 = _bounds(foreground)
    height, width = foreground.shape
    if min(x1, y1) == 0 or x2 == width or y2 == height:
        near, outside_px = (slice(None), slice(None)), 0
    else:  # what surrounds the foreground is one component, which begins in the corner and goes on beyond the crop
        near = slice(y1 - 1, y2 + 1), slice(x1 - 1, x2 + 1)
        outside_px = foreground.size - foreground[near].size
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((~foreground[near]).view(np.uint8), connectivity=8)
    areas_px = statistics[:, cv2.CC_STAT_AREA]
    areas_px[labels[0, 0]] += outside_px
    is_small = areas_px <= max_area_px
    is_small[0] = False  # component 0 is the foreground
    holes = np.full(foreground.shape, is_small[labels[0, 0]])
    holes[near] = is_small.take(labels)
    return holes


def _bounds(mask: BoolArray) -> tuple[int, int, int, int]:
    """(x1, y1, x2, y2), exclusive; all zeros for an empty mask."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return 0, 0, 0, 0
    rows = np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
