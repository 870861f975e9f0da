"""Signed distance to the outline of one shape, on a window of pixels.

Pure geometry in pixels: knows nothing of colours, pictures or other shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

REACH = 1.4
"""No outline reaches further than this many radii from its centre, before stretching."""


@dataclass(frozen=True)
class Pose:
    """Where and how a shape lies.

    Attributes:
        centre: (x, y) in pixels.
        radius: in pixels; a circle's radius, and about the same area for the other shapes.
        stretch: (x, y) factors applied after the rotation.
        angle: rotation in radians.
        line: relative width of what is drawn with a line: the hole of a ring and the arm of a cross, as a
            fraction of the radius.
    """

    centre: tuple[float, float]
    radius: float
    stretch: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0
    line: float = 0.5

    def reach(self) -> tuple[float, float]:
        """Half width and half height, in pixels, of a box that surely holds the shape."""
        return REACH * self.radius * self.stretch[0], REACH * self.radius * self.stretch[1]


def signed_distance(shape: str, pose: Pose, xs: Array, ys: Array) -> Array:
    """Distance to the outline in pixels, positive inside.

    Args:
        shape: one of `vocabulary.SHAPES`.
        pose: where it lies.
        xs: pixel centres, shape [W].
        ys: pixel centres, shape [H].

    Returns:
        float32 [H, W]; exact for the polygons, first order for circle and ring.
    """
    if shape in ("circle", "ring"):
        return _round_distance(shape, pose, xs, ys)
    return _polygon_distance(_place(_vertices(shape, pose.line), pose), xs, ys)


def _round_distance(shape: str, pose: Pose, xs: Array, ys: Array) -> Array:
    u = ((xs - pose.centre[0]) / (pose.radius * pose.stretch[0]))[None, :]
    v = ((ys - pose.centre[1]) / (pose.radius * pose.stretch[1]))[:, None]
    rho = np.sqrt(u * u + v * v) + 1e-6
    slope = np.sqrt((u / pose.stretch[0]) ** 2 + (v / pose.stretch[1]) ** 2) / (rho * pose.radius) + 1e-9
    outer = (1.0 - rho) / slope
    if shape == "circle":
        return outer.astype(np.float32)
    return np.minimum(outer, (rho - pose.line) / slope).astype(np.float32)


def _vertices(shape: str, line: float) -> NDArray[np.float64]:
    """Corner points [N, 2] of a polygon about the origin, y downwards, radius 1."""
    if shape == "square":
        return 0.89 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    if shape == "triangle":
        return _on_circle([1.25] * 3)
    if shape == "star":
        return _on_circle([1.3, 0.585] * 5)
    arm = 1.15 * line
    quarter = [(arm, -arm), (1.15, -arm), (1.15, arm)]
    turns = [
        np.array([(c * x - s * y, s * x + c * y) for x, y in quarter]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))
    ]
    return np.concatenate(turns)


def _on_circle(radii: list[float]) -> NDArray[np.float64]:
    angles = -math.pi / 2 + 2 * math.pi * np.arange(len(radii)) / len(radii)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * np.array(radii)[:, None]


def _place(points: NDArray[np.float64], pose: Pose) -> NDArray[np.float64]:
    c, s = math.cos(pose.angle), math.sin(pose.angle)
    turned = points @ np.array([(c, s), (-s, c)])
    return turned * pose.radius * np.array(pose.stretch) + np.array(pose.centre)


def _polygon_distance(corners: NDArray[np.float64], xs: Array, ys: Array) -> Array:
    """Exact signed distance to a simple polygon, after I. Quilez, "2D distance functions"."""
    x, y = xs[None, :].astype(np.float32), ys[:, None].astype(np.float32)
    nearest = np.full((len(ys), len(xs)), np.inf, np.float32)
    inside = np.zeros((len(ys), len(xs)), bool)
    for (ax, ay), (bx, by) in zip(corners.astype(np.float32), np.roll(corners, -1, 0).astype(np.float32), strict=True):
        ex, ey = bx - ax, by - ay
        px, py = x - ax, y - ay
        t = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        np.minimum(nearest, (px - t * ex) ** 2 + (py - t * ey) ** 2, out=nearest)
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (px < py * (ex / ey))
    distance = np.sqrt(nearest)
    return np.where(inside, distance, -distance)
