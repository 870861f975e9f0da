"""Polygons that stand for a mask: few points, and still the same object.

Whatever the mask, its polygons together have an IoU of at least 0.95 with it: parts and holes that are left out add up
to at most 3 % of the area, and a ring is simplified only as far as the rest allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from sam3_backend.geometry.outlines import Part, parts, ring_area
from sam3_backend.geometry.raster import rasterize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from sam3_backend.masks import Mask

    FloatArray = npt.NDArray[np.float64]

T = TypeVar("T")

MIN_PART_IOU = 0.975
"""Each polygon's IoU with its part; with ``MAX_DROPPED_PARTS`` this gives 0.95 with the whole mask."""

MAX_DROPPED_PARTS = 0.02
"""Share of a mask's area that its smallest parts may add up to and still be dropped."""

MAX_FILLED_HOLES = 0.01
"""Share of a part's area that its smallest holes may add up to and still be filled."""

TOLERANCE_OF_SIDE = 1 / 400
"""Default tolerance as a share of the picture's longer side, at least one pixel."""

_LEAST_POINTS = 3
_ATTEMPTS = 5
"""How often the tolerance is halved before the exact outline is taken."""


@dataclass(frozen=True)
class Polygon:
    """One part of a mask as one closed ring.

    A hole is reached through a slit of no width: the ring goes in to the hole, around it, and back on the same line, so
    that a format which knows outer rings alone can carry it.

    Attributes:
        points: (n, 2) float64 XY px at pixel edges, n >= 3; the first point is not repeated.
    """

    points: FloatArray


def polygons(mask: Mask, *, tolerance_px: float | None = None) -> list[Polygon]:
    """Polygons for the parts of a mask, largest part first; none for an empty mask.

    The smallest parts are dropped as long as they add up to at most 2 % of the area. Of each part the smallest holes
    are filled as long as they add up to at most 1 % of its area; the others are cut in through slits.

    Args:
        mask: The object.
        tolerance_px: How far an outline may be moved to save points, in pixels (Douglas-Peucker); halved where the
            polygon would no longer cover its part with IoU 0.975. None for 1/400 of the picture's longer side, at
            least 1 px.
    """
    if tolerance_px is None:
        tolerance_px = max(1.0, TOLERANCE_OF_SIDE * max(mask.picture_hw))
    kept = without_smallest(parts(mask), lambda part: part.area_px, MAX_DROPPED_PARTS * mask.area_px)
    return [_polygon(part, tolerance_px, mask.picture_hw) for part in kept]


def without_smallest(found: Sequence[T], area_px: Callable[[T], float], budget_px: float) -> list[T]:
    """What is left, in its order, when the smallest are dropped that add up to at most the budget."""
    smallest_first = sorted(range(len(found)), key=lambda index: area_px(found[index]))
    totals = np.cumsum([area_px(found[index]) for index in smallest_first])
    dropped = set(smallest_first[: int(np.searchsorted(totals, budget_px, side="right"))])
    return [each for index, each in enumerate(found) if index not in dropped]


def _polygon(part: Part, tolerance_px: float, picture_hw: tuple[int, int]) -> Polygon:
    """The part's polygon with the largest of the tolerances that keeps it true."""
    holes = without_smallest(part.holes, ring_area, MAX_FILLED_HOLES * part.area_px)
    truth = rasterize([part.outer, *part.holes], picture_hw)
    for attempt in range(_ATTEMPTS):
        rings = [_simplified(ring, tolerance_px / 2**attempt) for ring in (part.outer, *holes)]
        if (
            all(len(ring) >= _LEAST_POINTS for ring in rings)
            and rasterize(rings, picture_hw).iou(truth) >= MIN_PART_IOU
        ):
            return Polygon(_joined(rings))
    return Polygon(_joined([part.outer, *holes]))


def _simplified(ring: FloatArray, tolerance_px: float) -> FloatArray:
    """Douglas-Peucker on a closed ring."""
    return np.asarray(cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance_px, True)[:, 0], np.float64)


def _joined(rings: Sequence[FloatArray]) -> FloatArray:
    """One ring that runs around the first and, through slits, around each of the others."""
    joined = rings[0]
    for hole in rings[1:]:
        distance = ((joined[:, None] - hole[None]) ** 2).sum(axis=2)
        at, entry = np.unravel_index(int(distance.argmin()), distance.shape)
        around = np.roll(hole, -int(entry), axis=0)
        joined = np.concatenate([joined[: at + 1], around, around[:1], joined[at:]])
    return joined
