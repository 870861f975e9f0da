"""Pixels of polygons: a pixel belongs to a polygon where its centre does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sam3_backend.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    IndexArray = npt.NDArray[np.int64]


def rasterize(rings: Sequence[FloatArray], picture_hw: tuple[int, int]) -> Mask:
    """The pixels whose centre lies inside an odd number of rings.

    OpenCV's ``fillPoly`` also paints every pixel a ring touches, half a pixel too much all around.

    Args:
        rings: (n, 2) float XY px each, at pixel edges; parts outside the picture are cut off.
        picture_hw: (height, width) of the picture in pixels.

    Raises:
        ValueError: A coordinate is not a finite number.
    """
    height, width = picture_hw
    points = np.concatenate([np.zeros((0, 2)), *rings]) if any(len(ring) for ring in rings) else np.zeros((1, 2))
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not a finite number")
    x1, y1 = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(points.max(axis=0)), (x1, y1), (width, height)).astype(int).tolist()
    # Each row changes sides where an edge crosses the line through its pixels' centres.
    changes = np.zeros((y2 - y1, x2 - x1 + 1), np.uint8)
    for ring in rings:
        rows, x = _crossings(np.asarray(ring, np.float64) - (x1, y1), y2 - y1)
        columns = np.clip(np.ceil(x - 0.5), 0, x2 - x1).astype(np.int64)
        np.add.at(changes, (rows, columns), 1)
    inside = np.bitwise_xor.accumulate(changes & 1, axis=1)[:, :-1].astype(np.bool_)
    return Mask(crop=np.ascontiguousarray(inside), origin_xy_px=(x1, y1), picture_hw=picture_hw)


def _crossings(ring: FloatArray, height_px: int) -> tuple[IndexArray, FloatArray]:
    """Where a ring's edges cross the rows' centre lines.

    Args:
        ring: (n, 2) XY px in the frame of the rows.
        height_px: Number of rows.

    Returns:
        (m,) rows and (m,) x px.
    """
    start, end = ring, np.roll(ring, -1, axis=0)
    lowest, highest = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first = np.clip(np.ceil(lowest - 0.5), 0, height_px).astype(np.int64)
    counts = np.clip(np.ceil(highest - 0.5), 0, height_px).astype(np.int64) - first
    edges = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    (x1, y1), (x2, y2) = start[edges].T, end[edges].T
    return rows, x1 + (rows + 0.5 - y1) / (y2 - y1) * (x2 - x1)
