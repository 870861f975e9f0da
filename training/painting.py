"""Paints single shapes onto a picture, and remembers which pixel shows which of them.

Knows colours, outlines and camera effects. Where shapes go, and how many, is `shapes`' business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.backgrounds import Rng, enlarge
from training.outlines import Pose, signed_distance

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Instance:
    """One drawn shape.

    Attributes:
        shape: its form, one of `SHAPES`.
        colour: its colour name, one of `COLOURS`.
        mask: bool [H, W], where it is visible.
        box: tightest (x1, y1, x2, y2) around the mask in pixels; x2 and y2 are exclusive pixel edges.
    """

    shape: str
    colour: str
    mask: NDArray[np.bool_]
    box: tuple[float, float, float, float]


@dataclass
class Canvas:
    """The picture while it is painted. `owner` is 0 for background, i + 1 for instance i."""

    pixels: Float
    owner: NDArray[np.uint8]
    squash: tuple[float, float]
    scale_px: float
    plain: bool
    overlaps: bool
    painted: list[tuple[str, str, Float, int, Pose]] = field(default_factory=list)


def window(canvas: Canvas, pose: Pose) -> tuple[slice, slice]:
    """Rows and columns of the picture that a shape can reach."""
    height, width = canvas.owner.shape
    (cx, cy), (rx, ry) = pose.centre, pose.reach()
    rows = slice(max(0, int(cy - ry) - 1), min(height, int(cy + ry) + 2))
    return rows, slice(max(0, int(cx - rx) - 1), min(width, int(cx + rx) + 2))


def paint(rng: Rng, canvas: Canvas, shape: str, colour: str, rgb: Float, pose: Pose) -> None:
    """Puts a shape on top of what is there; edges are smooth, its mask is what lies inside its outline."""
    rows, columns = window(canvas, pose)
    xs = np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5
    ys = np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5
    distance = signed_distance(shape, pose, xs, ys)
    fill = np.broadcast_to(rgb, (len(ys), len(xs), 3))
    if not canvas.plain:
        fill = _styled(rng, fill, distance, pose, xs, ys)
    alpha = np.clip(distance + 0.5, 0, 1)[..., None]
    view = canvas.pixels[rows, columns]
    view += alpha * (fill - view)
    covered = distance > 0
    canvas.owner[rows, columns][covered] = len(canvas.painted) + 1
    canvas.painted.append((shape, colour, rgb, int(covered.sum()), pose))


def _styled(rng: Rng, fill: Float, distance: Float, pose: Pose, xs: Float, ys: Float) -> Float:
    """Shading, texture or a darker rim: never so much that the colour's name changes."""
    styled = fill
    if rng.random() < 0.45:
        angle = rng.uniform(0, 2 * math.pi)
        across = (xs[None] - pose.centre[0]) * math.cos(angle) / pose.stretch[0]
        along = (ys[:, None] - pose.centre[1]) * math.sin(angle) / pose.stretch[1]
        slope = np.clip((across + along) / pose.radius, -1, 1)
        styled = styled * (1 - np.float32(rng.uniform(0, 0.22)) * (0.5 + 0.5 * slope))[..., None]
    if rng.random() < 0.3:
        coarse = rng.standard_normal((max(2, len(ys) // 8), max(2, len(xs) // 8))).astype(np.float32)
        styled = styled + enlarge(coarse, len(ys), len(xs))[..., None] * np.float32(rng.uniform(0, 0.05))
    if rng.random() < 0.15:
        rim = distance < max(1.0, rng.uniform(0.04, 0.1) * pose.radius)
        styled = np.where(rim[..., None], styled * np.float32(rng.uniform(0.5, 0.8)), styled)
    return styled.astype(np.float32)


def finished(rng: Rng, canvas: Canvas) -> NDArray[np.uint8]:
    """The picture as a camera would have it, uint8 [H, W, 3]: noise, a slight blur."""
    pixels = canvas.pixels
    if not canvas.plain and rng.random() < 0.55:
        pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(0, 0.04))
    image = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    if not canvas.plain and rng.random() < 0.35:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.9)))))
    return image


def instances_of(canvas: Canvas) -> tuple[Instance, ...]:
    """What is visible of each shape, in painting order."""
    found = []
    for i, (shape, colour, _, _, _) in enumerate(canvas.painted):
        mask = canvas.owner == i + 1
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            found.append(Instance(shape, colour, mask, box))
    return tuple(found)
