"""The concepts that the demo checkpoint knows: six shapes in ten colours.

Knows names and colour ranges. Knows nothing of drawing or of tokens.
"""

from __future__ import annotations

from typing import NamedTuple

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "ring", "cross")


class ColourRange(NamedTuple):
    """What may be called by one colour name: HSV intervals, each in [0, 1] (hue may wrap below 0)."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]


COLOUR_RANGES: dict[str, ColourRange] = {
    "red": ColourRange((-0.025, 0.02), (0.75, 1.0), (0.7, 1.0)),
    "orange": ColourRange((0.068, 0.105), (0.85, 1.0), (0.9, 1.0)),
    "yellow": ColourRange((0.145, 0.18), (0.7, 1.0), (0.85, 1.0)),
    "green": ColourRange((0.27, 0.42), (0.55, 1.0), (0.4, 0.95)),
    "cyan": ColourRange((0.48, 0.53), (0.6, 1.0), (0.8, 1.0)),
    "blue": ColourRange((0.58, 0.68), (0.65, 1.0), (0.6, 1.0)),
    "purple": ColourRange((0.74, 0.84), (0.55, 1.0), (0.4, 0.75)),
    "pink": ColourRange((0.88, 0.98), (0.22, 0.6), (0.95, 1.0)),
    "white": ColourRange((0.0, 1.0), (0.0, 0.04), (0.93, 1.0)),
    "black": ColourRange((0.0, 1.0), (0.0, 0.3), (0.0, 0.1)),
}
COLOURS: tuple[str, ...] = tuple(COLOUR_RANGES)

PLURALS: dict[str, str] = {shape: f"{shape}es" if shape == "cross" else f"{shape}s" for shape in SHAPES}
SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "disk", "dot", "ball"),
    "ring": ("donut",),
    "cross": ("plus",),
    "square": ("rectangle", "box"),
}
ANY_SHAPE: tuple[str, ...] = ("shape", "shapes", "object", "objects", "thing", "things")
"""Words for whatever shape; the first four are by far the most usual."""

VISUAL = "visual"
"""The text that goes with exemplar boxes alone, as in the official model."""
