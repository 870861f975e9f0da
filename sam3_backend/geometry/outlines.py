"""Exact outlines of masks, along pixel edges.

OpenCV follows borders through pixel centres, which makes a square of 10 x 10 pixels one of 9 x 9. Here it follows them
on a lattice twice as fine, where a pixel covers the 3 x 3 points from corner to corner: borders then run along the
pixels' edges, and a gap of one pixel stays a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from sam3_backend.masks import BoolArray, Mask

    FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One connected part of a mask. Pixels that touch at a corner are connected.

    Attributes:
        outer: (n, 2) float64 XY px, its outer ring; the first point is not repeated.
        holes: Rings of its holes, (n, 2) float64 XY px each, turning the other way.
    """

    outer: FloatArray
    holes: tuple[FloatArray, ...]

    @cached_property
    def area_px(self) -> float:
        """How many pixels the part has."""
        return ring_area(self.outer) - sum(ring_area(hole) for hole in self.holes)


def ring_area(ring: FloatArray) -> float:
    """Area inside a ring, (n, 2) XY px, whichever way it turns."""
    x, y = ring[:, 0], ring[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def parts(mask: Mask) -> list[Part]:
    """The connected parts of a mask, largest first, with rings that reproduce it to the pixel."""
    if not mask.area_px:
        return []
    borders, hierarchy = cv2.findContours(_lattice(mask.crop), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_to_ring(border[:, 0], mask.origin_xy_px) for border in borders]
    parents = hierarchy[0, :, 3]
    holes: dict[int, list[FloatArray]] = {}
    for index in np.flatnonzero(parents >= 0):
        holes.setdefault(int(parents[index]), []).append(rings[index])
    found = [Part(rings[index], tuple(holes.get(int(index), ()))) for index in np.flatnonzero(parents < 0)]
    return sorted(found, key=lambda part: -part.area_px)


def _lattice(crop: BoolArray) -> npt.NDArray[np.uint8]:
    """(2 h + 1, 2 w + 1) uint8: 1 on the corners, edges and centres of the mask's pixels."""
    height, width = crop.shape
    doubled = cv2.resize(crop.view(np.uint8), (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    padded = np.pad(doubled, ((0, 1), (0, 1)))
    padded[1:] |= padded[:-1].copy()
    padded[:, 1:] |= padded[:, :-1].copy()
    return padded


def _to_ring(border: npt.NDArray[np.int32], origin_xy_px: tuple[int, int]) -> FloatArray:
    """A border on the lattice as a ring of pixel corners, without points on straight lines."""
    following = np.roll(border, -1, axis=0)
    # A border cuts inner corners: it steps from the middle of one edge to the middle of the next. Of the two points
    # beside such a step, the one with even coordinates is the pixel's corner.
    corners = np.where((border & 1) == 0, border, following)
    is_cut = (border != following).all(axis=1)
    points = np.stack([border, corners], axis=1).reshape(-1, 2)
    points = points[np.stack([np.ones(len(border), np.bool_), is_cut], axis=1).reshape(-1)]
    points = points[(points & 1 == 0).all(axis=1)]
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    is_straight = ((before == points) & (points == after)).any(axis=1)
    ring: FloatArray = points[~is_straight] / 2.0 + np.array(origin_xy_px, np.float64)
    return ring
