"""Pictures of coloured shapes, drawn together with the exact mask of each.

They are what the demo checkpoint knows, and nobody has to guess where an object ends. Plain numpy and Pillow; does not
know Label Studio.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    import numpy.typing as npt

Kind = Literal["circle", "square", "triangle", "star", "ring", "cross"]

COLOURS = {
    "red": (214, 30, 36),
    "orange": (248, 150, 20),
    "yellow": (250, 214, 40),
    "green": (36, 148, 60),
    "cyan": (40, 214, 224),
    "blue": (32, 72, 208),
    "purple": (122, 40, 158),
    "pink": (252, 140, 186),
    "white": (248, 248, 248),
    "black": (12, 12, 14),
}

EXIF_ORIENTATION = 0x0112
TURNED_RIGHT = 6
"""Exif's word for: turn me a quarter to the right before showing me."""


@dataclass(frozen=True)
class Shape:
    """A shape on a picture.

    Attributes:
        kind: Its outline.
        colour: Its colour's name, a key of ``COLOURS``.
        centre_xy_px: Its middle, in pixels of the upright picture.
        radius_px: From its middle to its farthest point.
        angle_deg: How far it is turned, clockwise.
    """

    kind: Kind
    colour: str
    centre_xy_px: tuple[float, float]
    radius_px: float
    angle_deg: float = 0.0

    @property
    def name(self) -> str:
        """What a person would call it: "red circle"."""
        return f"{self.colour} {self.kind}"

    def mask(self, width_px: int, height_px: int) -> npt.NDArray[np.bool_]:
        """Its pixels, (height, width) bool."""
        canvas = Image.new("1", (width_px, height_px))
        pen = ImageDraw.Draw(canvas)
        if self.kind in ("circle", "ring"):
            pen.circle(self.centre_xy_px, self.radius_px, fill=1)
        else:
            pen.polygon(self._corners(), fill=1)
        if self.kind == "ring":
            pen.circle(self.centre_xy_px, self.radius_px * 0.55, fill=0)
        return np.array(canvas, dtype=np.bool_)

    def _corners(self) -> list[tuple[float, float]]:
        turn = math.radians(self.angle_deg - 90)
        if self.kind == "cross":
            arm = math.atan2(0.3, 1)
            polar = [(1.0, k * math.pi / 2 + side * arm) for k in range(4) for side in (-1, 1)]
            inner = [(0.3 * math.sqrt(2) * math.cos(arm), (k + 0.5) * math.pi / 2) for k in range(4)]
            outline = [point for k in range(4) for point in (*polar[2 * k : 2 * k + 2], inner[k])]
        else:
            spikes = {"square": 4, "triangle": 3, "star": 10}[self.kind]
            start = math.pi / 4 if self.kind == "square" else 0.0
            radii = [0.45 if self.kind == "star" and k % 2 else 1.0 for k in range(spikes)]
            outline = [(radius, start + 2 * math.pi * k / spikes) for k, radius in enumerate(radii)]
        x, y = self.centre_xy_px
        reach = self.radius_px
        return [(x + reach * r * math.cos(turn + a), y + reach * r * math.sin(turn + a)) for r, a in outline]


@dataclass(frozen=True)
class Drawing:
    """A picture and everything on it; shapes do not overlap.

    Attributes:
        shapes: What is drawn.
        width_px: Width of the upright picture.
        height_px: Height of the upright picture.
        background: Colour (r, g, b) at the top; it darkens a little towards the bottom.
    """

    shapes: tuple[Shape, ...]
    width_px: int = 800
    height_px: int = 600
    background: tuple[int, int, int] = (188, 186, 178)

    def truth(self, name: str) -> npt.NDArray[np.bool_]:
        """The pixels of all shapes of one name, colour or kind, (height, width) bool.

        Args:
            name: "red circle", "red" or "circle".
        """
        masks = [
            shape.mask(self.width_px, self.height_px)
            for shape in self.shapes
            if name in (shape.name, shape.colour, shape.kind)
        ]
        if not masks:
            raise KeyError(name)
        return np.asarray(np.any(masks, axis=0), dtype=np.bool_)

    def rgb(self) -> npt.NDArray[np.uint8]:
        """The upright picture, (height, width, 3) RGB."""
        shade = np.linspace(1.0, 0.88, self.height_px)[:, None, None]
        canvas = np.broadcast_to(shade * np.array(self.background), (self.height_px, self.width_px, 3)).astype(np.uint8)
        for shape in self.shapes:
            canvas[shape.mask(self.width_px, self.height_px)] = COLOURS[shape.colour]
        return canvas

    def file(self, name: str) -> bytes:
        """The picture as the file its name promises: a PNG, or a JPEG on its side."""
        return self.turned_jpeg() if name.endswith(".jpg") else self.png()

    def png(self) -> bytes:
        """The picture as a PNG file."""
        file = io.BytesIO()
        Image.fromarray(self.rgb()).save(file, "PNG")
        return file.getvalue()

    def turned_jpeg(self) -> bytes:
        """The picture as a phone stores it that was held upright: pixels on their side, and an Exif note saying so."""
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = TURNED_RIGHT
        file = io.BytesIO()
        Image.fromarray(np.rot90(self.rgb())).save(file, "JPEG", quality=95, exif=exif)
        return file.getvalue()


def sample_drawings() -> dict[str, Drawing]:
    """The sample project's pictures by file name."""
    return {
        "shapes-1.png": Drawing(
            (
                Shape("circle", "red", (200, 190), 110),
                Shape("square", "blue", (560, 210), 130),
                Shape("triangle", "green", (380, 450), 120),
            )
        ),
        "shapes-2.png": Drawing(
            (
                Shape("star", "yellow", (210, 220), 130, 10),
                Shape("circle", "red", (560, 170), 90),
                Shape("circle", "blue", (590, 440), 100),
                Shape("cross", "purple", (270, 470), 95, 12),
            ),
            background=(96, 108, 104),
        ),
        "shapes-3.png": Drawing(
            (
                Shape("ring", "orange", (220, 300), 140),
                Shape("triangle", "cyan", (580, 180), 120, 20),
                Shape("square", "black", (580, 440), 110, 15),
            ),
            background=(214, 202, 190),
        ),
        "shapes-4.png": Drawing(
            (
                Shape("square", "pink", (190, 170), 120),
                Shape("star", "white", (560, 210), 140),
                Shape("circle", "green", (250, 450), 95),
                Shape("ring", "red", (570, 470), 100),
            ),
            background=(84, 92, 120),
        ),
        "shapes-5-turned.jpg": Drawing(
            (
                Shape("circle", "blue", (200, 220), 120),
                Shape("star", "red", (400, 560), 130),
            ),
            width_px=600,
            height_px=800,
            background=(200, 204, 190),
        ),
    }
