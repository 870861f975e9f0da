"""Draws pictures of coloured shapes, with the exact visible mask of each.

`draw(seed, settings)` is all there is to know: the same seed and settings give the same picture. Knows nothing of
prompts, tensors or the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from training.backgrounds import BACKGROUNDS, TRAINING_BACKGROUNDS, Rng, hsv_to_rgb
from training.outlines import Pose
from training.painting import Canvas, Float, Instance, finished, instances_of, paint, window
from training.vocabulary import COLOUR_RANGES, COLOURS, SHAPES

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Settings:
    """What pictures look like; every pair is a (low, high) range to draw from.

    Attributes:
        area_px: the picture's width times height.
        aspect: width / height.
        count: how many shapes are tried (some may find no room).
        size: a shape's diameter as a fraction of the square root of the picture's area, drawn log-uniformly.
        large_share: share of pictures with at most four shapes, of the upper half of `size`.
        overlap_share: share of pictures in which shapes may hide parts of each other.
        plain_share: share of pictures with a plain background, flat fills and no noise or blur.
        backgrounds: names from `backgrounds.BACKGROUNDS`.
        ring_hole: inner radius of a ring relative to the outer.
        cross_arm: half width of a cross's arm relative to its half length.
        stretch: a shape's own width / height.
        repeat_share: chance that a shape repeats an earlier one's form and colour (a further half as much, only one
            of the two).
    """

    area_px: tuple[int, int] = (384 * 384, 384 * 384)
    aspect: tuple[float, float] = (0.6, 1.7)
    count: tuple[int, int] = (4, 12)
    size: tuple[float, float] = (0.036, 0.5)
    large_share: float = 0.25
    overlap_share: float = 0.25
    plain_share: float = 0.25
    backgrounds: tuple[str, ...] = TRAINING_BACKGROUNDS
    ring_hole: tuple[float, float] = (0.48, 0.66)
    cross_arm: tuple[float, float] = (0.28, 0.42)
    stretch: tuple[float, float] = (0.87, 1.15)
    repeat_share: float = 0.35


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        instances: in painting order; later ones lie on top.
    """

    image: NDArray[np.uint8]
    instances: tuple[Instance, ...]


def draw(seed: int, settings: Settings | None = None, raster_px: int | None = None) -> Scene:
    """Draws one picture.

    Args:
        seed: same seed, same picture.
        settings: what it looks like; the defaults are those of training.
        raster_px: draw straight onto a square of this many pixels a side, as if the picture had been resized to it
            without keeping its aspect (what the model's preprocessing does, but without the detour).

    Returns:
        The scene. It holds at least one shape unless there was no room at all.
    """
    settings = settings or Settings()
    rng = np.random.default_rng(seed)
    canvas = _prepare(rng, settings, raster_px)
    large = rng.random() < settings.large_share
    low, high = settings.size
    middle = math.sqrt(low * high)
    wanted = int(rng.integers(1, 5)) if large else int(rng.integers(settings.count[0], settings.count[1] + 1))
    for _ in range(wanted):
        size = math.exp(rng.uniform(math.log(middle if large else low), math.log(high)))
        if not large and size > 0.6 * high and len(canvas.painted) > 2:
            size *= 0.6
        _add_shape(rng, canvas, settings, size)
    return Scene(finished(rng, canvas), instances_of(canvas))


def draw_plain(
    shapes: list[tuple[str, str, tuple[float, float], float]], size_px: tuple[int, int] = (800, 600)
) -> Scene:
    """Draws chosen flat shapes on a light ground: what tests and examples usually want.

    Args:
        shapes: (shape, colour, (centre x, centre y) in pixels, radius in pixels) of each, in painting order.
        size_px: (width, height).
    """
    width, height = size_px
    pixels = np.full((height, width, 3), 0.96, np.float32)
    canvas = Canvas(pixels, np.zeros((height, width), np.uint8), (1.0, 1.0), float(height), plain=True, overlaps=True)
    rng = np.random.default_rng(0)
    for shape, colour, centre, radius in shapes:
        hue, saturation, value = (sum(pair) / 2 for pair in COLOUR_RANGES[colour])
        pose = Pose(centre, radius, line=0.55 if shape == "ring" else 0.36)
        paint(rng, canvas, shape, colour, hsv_to_rgb(hue, saturation, value), pose)
    return Scene((pixels * 255 + 0.5).astype(np.uint8), instances_of(canvas))


def larger(settings: Settings, factor: float) -> Settings:
    """The same kind of pictures, `factor` times as wide and as high."""
    low, high = settings.area_px
    return replace(settings, area_px=(int(low * factor**2), int(high * factor**2)))


def _prepare(rng: Rng, settings: Settings, raster_px: int | None) -> Canvas:
    aspect = math.exp(rng.uniform(*np.log(settings.aspect)))
    area = rng.uniform(*settings.area_px)
    width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    squash = (1.0, 1.0)
    if raster_px is not None:
        squash = (raster_px / width, raster_px / height)
        width = height = raster_px
    plain = rng.random() < settings.plain_share
    name = "plain" if plain else str(rng.choice(settings.backgrounds))
    pixels = np.clip(BACKGROUNDS[name](rng, height, width), 0, 1).astype(np.float32)
    overlaps = bool(rng.random() < settings.overlap_share)
    return Canvas(pixels, np.zeros((height, width), np.uint8), squash, math.sqrt(area), plain, overlaps)


def _add_shape(rng: Rng, canvas: Canvas, settings: Settings, size: float) -> None:
    """Tries some forms, colours and places for one shape; gives up silently when none is legible."""
    height, width = canvas.owner.shape
    radius = size * canvas.scale_px / 2
    for _ in range(20):
        shape, colour = _attributes(rng, canvas, settings.repeat_share)
        pose = _pose(rng, settings, shape, radius, canvas.squash, (width, height))
        rgb = hsv_to_rgb(*(rng.uniform(*pair) for pair in COLOUR_RANGES[colour]))
        if _is_free(canvas, pose, colour) and _is_legible(canvas, pose, rgb) and _keeps_others_visible(canvas, pose):
            paint(rng, canvas, shape, colour, rgb, pose)
            return


def _attributes(rng: Rng, canvas: Canvas, repeat_share: float) -> tuple[str, str]:
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(COLOURS))
    if canvas.painted:
        earlier = canvas.painted[int(rng.integers(len(canvas.painted)))]
        chance = rng.random()
        if chance < repeat_share * 1.25:
            shape = earlier[0]
        if chance < repeat_share or repeat_share * 1.25 < chance < repeat_share * 1.5:
            colour = earlier[1]
    return shape, colour


def _pose(
    rng: Rng, settings: Settings, shape: str, radius: float, squash: tuple[float, float], size_px: tuple[int, int]
) -> Pose:
    own = math.sqrt(math.exp(rng.uniform(*np.log(settings.stretch))))
    stretch = (own * squash[0], squash[1] / own)
    reach = (0.9 * radius * stretch[0], 0.9 * radius * stretch[1])
    centre = tuple(float(rng.uniform(min(r, s / 2), max(s - r, s / 2))) for r, s in zip(reach, size_px, strict=True))
    limit = 0.35 if shape in ("square", "cross") else math.pi
    angle = 0.0 if rng.random() < 0.45 else float(rng.uniform(-limit, limit))
    line = rng.uniform(*(settings.ring_hole if shape == "ring" else settings.cross_arm))
    return Pose((centre[0], centre[1]), radius, stretch, angle, float(line))


def _is_free(canvas: Canvas, pose: Pose, colour: str) -> bool:
    """No other shape near; where overlaps are allowed, no covered centre and no neighbour of the same colour."""
    for _, other_colour, _, _, other in canvas.painted:
        gap = (
            math.hypot(
                (pose.centre[0] - other.centre[0]) / canvas.squash[0],
                (pose.centre[1] - other.centre[1]) / canvas.squash[1],
            )
            - 1.12 * (pose.radius + other.radius)
            - 3
        )
        if gap > 0:
            continue
        if not canvas.overlaps or colour == other_colour or gap < -1.5 * max(pose.radius, other.radius):
            return False
    return True


def _is_legible(canvas: Canvas, pose: Pose, rgb: Float) -> bool:
    """The colour stands out against what is there now."""
    rows, columns = window(canvas, pose)
    steps = (max(1, (part.stop - part.start) // 8) for part in (rows, columns))
    under = canvas.pixels[rows, columns][tuple(slice(None, None, step) for step in steps)]
    distance = np.sqrt(((under - rgb) ** 2).sum(-1))
    return bool(np.quantile(distance, 0.1) > 0.33)


def _keeps_others_visible(canvas: Canvas, pose: Pose) -> bool:
    if not canvas.overlaps:
        return True
    rows, columns = window(canvas, pose)
    hidden = np.bincount(canvas.owner[rows, columns].ravel(), minlength=len(canvas.painted) + 1)
    visible = np.bincount(canvas.owner.ravel(), minlength=len(canvas.painted) + 1)
    full = [area for _, _, _, area, _ in canvas.painted]
    return all(visible[i + 1] - 0.8 * hidden[i + 1] > 0.5 * area for i, area in enumerate(full))
