"""Procedural picture backgrounds, by name; some of them are kept for the held-out pictures alone.

Each is a function of (rng, height, width) to float32 [H, W, 3] in [0, 1]. Knows nothing of shapes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[np.float32]
Rng = np.random.Generator


def hsv_to_rgb(hue: float, saturation: float, value: float) -> Array:
    """One colour, all in [0, 1] (hue wraps), to RGB float32 [3] in [0, 1]."""
    k = (np.array([5.0, 3.0, 1.0]) + (hue % 1.0) * 6) % 6
    return (value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))).astype(np.float32)


def enlarge(small: Array, height: int, width: int) -> Array:
    """A coarse field [h, w] or [h, w, C], smoothly enlarged to [H, W] or [H, W, C]."""
    planes = small[..., None] if small.ndim == 2 else small
    size, smooth = (width, height), Image.Resampling.BICUBIC
    grown = [np.asarray(Image.fromarray(planes[..., c]).resize(size, smooth)) for c in range(planes.shape[-1])]
    return grown[0] if small.ndim == 2 else np.stack(grown, -1).astype(np.float32)


def calm_colour(rng: Rng) -> Array:
    """A background colour: mostly near grey, often light."""
    saturation = rng.uniform(0, 0.06) if rng.random() < 0.55 else rng.uniform(0, 0.45)
    value = rng.uniform(0.88, 1.0) if rng.random() < 0.35 else rng.uniform(0.02, 1.0)
    return hsv_to_rgb(rng.random(), saturation, value)


def _noise(rng: Rng, cells_y: int, cells_x: int, channels: int) -> Array:
    return rng.standard_normal((cells_y, cells_x, channels)).astype(np.float32)


def _ramp(rng: Rng, height: int, width: int) -> Array:
    """A linear field in about [-0.7, 0.7], in a random direction."""
    angle = rng.uniform(0, 2 * math.pi)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None]
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    return np.float32(math.cos(angle)) * x + np.float32(math.sin(angle)) * y


def _tint(rng: Rng) -> Array:
    return rng.uniform(0.75, 1.25, 3).astype(np.float32)


def plain(rng: Rng, height: int, width: int) -> Array:
    """One colour."""
    return np.broadcast_to(calm_colour(rng), (height, width, 3)).copy()


def gradient(rng: Rng, height: int, width: int) -> Array:
    """A linear gradient."""
    ramp = _ramp(rng, height, width)[..., None] * 2
    return calm_colour(rng) + ramp * np.float32(rng.uniform(0.04, 0.18)) * _tint(rng)


def blobs(rng: Rng, height: int, width: int) -> Array:
    """Large soft patches of colour."""
    cells = int(rng.integers(3, 9))
    return calm_colour(rng) + enlarge(_noise(rng, cells, cells, 3), height, width) * np.float32(rng.uniform(0.02, 0.09))


def stripes(rng: Rng, height: int, width: int) -> Array:
    """Soft parallel stripes."""
    wave = np.sin(_ramp(rng, height, width) * np.float32(rng.uniform(5, 25) * 2 * math.pi))[..., None]
    return calm_colour(rng) + wave * np.float32(rng.uniform(0.02, 0.09)) * _tint(rng)


def grain(rng: Rng, height: int, width: int) -> Array:
    """Fine grey noise, a few pixels wide."""
    cells = int(rng.integers(30, 70))
    return calm_colour(rng) + enlarge(_noise(rng, cells, cells, 1), height, width) * np.float32(rng.uniform(0.02, 0.07))


def clouds(rng: Rng, height: int, width: int) -> Array:
    """Noise at many scales, between two colours, like an out-of-focus photograph."""
    field = np.zeros((height, width), np.float32)
    for octave in range(5):
        cells = 3 * 2**octave
        field += enlarge(_noise(rng, cells, cells, 1)[..., 0], height, width) * np.float32(0.6**octave)
    mix = (np.tanh(field) * 0.5 + 0.5)[..., None]
    first, second = calm_colour(rng), calm_colour(rng)
    second = first + (second - first) * np.float32(rng.uniform(0.15, 0.5))
    return first + (second - first) * mix


def landscape(rng: Rng, height: int, width: int) -> Array:
    """A sky over a hilly ground, each with its own texture."""
    sky, ground = gradient(rng, height, width), blobs(rng, height, width)
    line = enlarge(_noise(rng, 2, int(rng.integers(4, 9)), 1)[..., 0], 2, width)[0] * height * 0.04
    edge = rng.uniform(0.25, 0.75) * height + line
    softness = rng.uniform(0.5, 6)
    below = np.clip((np.arange(height, dtype=np.float32)[:, None] - edge[None]) / softness + 0.5, 0, 1)[..., None]
    return (sky + (ground - sky) * below).astype(np.float32)


def vignette(rng: Rng, height: int, width: int) -> Array:
    """A radial gradient about a random centre."""
    cx, cy = rng.uniform(0.2, 0.8, 2)
    x = np.linspace(0, 1, width, dtype=np.float32)[None] - np.float32(cx)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(cy)
    return calm_colour(rng) + (0.4 - np.sqrt(x * x + y * y))[..., None] * np.float32(rng.uniform(0.1, 0.3)) * _tint(rng)


def tiles(rng: Rng, height: int, width: int) -> Array:
    """A low-contrast checkerboard."""
    side = int(rng.integers(12, 60))
    board = ((np.arange(height)[:, None] // side + np.arange(width)[None] // side) % 2).astype(np.float32)[..., None]
    return calm_colour(rng) + (board - 0.5) * np.float32(rng.uniform(0.04, 0.14)) * _tint(rng)


def squared_paper(rng: Rng, height: int, width: int) -> Array:
    """Thin grid lines on a plain ground."""
    pitch, line = int(rng.integers(16, 48)), int(rng.integers(1, 3))
    grid = ((np.arange(height)[:, None] % pitch < line) | (np.arange(width)[None] % pitch < line)).astype(np.float32)
    sign = np.float32(rng.choice([-1.0, 1.0]))
    return calm_colour(rng) + sign * grid[..., None] * np.float32(rng.uniform(0.08, 0.22)) * _tint(rng)


def patches(rng: Rng, height: int, width: int) -> Array:
    """Voronoi cells in similar colours."""
    seeds = rng.uniform(0, 1, (int(rng.integers(6, 20)), 2)).astype(np.float32)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    nearest = ((x - seeds[:, 0]) ** 2 + (y - seeds[:, 1]) ** 2).argmin(-1)
    spread = rng.standard_normal((len(seeds), 3)).astype(np.float32) * np.float32(rng.uniform(0.02, 0.07))
    shades = calm_colour(rng) + spread
    return shades[nearest]


BACKGROUNDS: dict[str, Callable[[Rng, int, int], Array]] = {
    f.__name__: f
    for f in (plain, gradient, blobs, stripes, grain, clouds, landscape, vignette, tiles, squared_paper, patches)
}
TRAINING_BACKGROUNDS: tuple[str, ...] = ("plain", "gradient", "blobs", "stripes", "grain", "clouds", "landscape")
HELD_OUT_BACKGROUNDS: tuple[str, ...] = ("vignette", "tiles", "squared_paper", "patches")
