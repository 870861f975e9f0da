"""Found objects drawn onto their picture, for a person to look at. Knows neither where they came from nor files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sam3_backend.masks import ScoredMask

    Pixels = npt.NDArray[np.uint8]

# Okabe and Ito's colours: told apart by colour-blind people too.
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
OPACITY = 0.45


def draw(rgb: Pixels, found: Sequence[ScoredMask]) -> Pixels:
    """The picture with every object tinted, outlined and named.

    Objects of one label share a colour; objects without one get a colour each.

    Args:
        rgb: (H, W, 3) uint8 RGB [0, 255], upright; not changed.
        found: Objects in this picture.

    Returns:
        (H, W, 3) uint8 RGB [0, 255].
    """
    canvas = rgb.copy()
    stroke_px = max(1, round(max(canvas.shape[:2]) / 500))
    colours = _colours(found)
    for each, colour in zip(found, colours, strict=True):
        _paint(canvas, each, colour, stroke_px)
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(12, max(canvas.shape[:2]) / 60))
    for each, colour in zip(found, colours, strict=True):
        _name(pen, font, each, colour)
    return np.asarray(image)


def _colours(found: Sequence[ScoredMask]) -> list[tuple[int, int, int]]:
    kinds: dict[object, int] = {}
    keys = [each.label if each.label is not None else index for index, each in enumerate(found)]
    return [PALETTE[kinds.setdefault(key, len(kinds)) % len(PALETTE)] for key in keys]


def _paint(canvas: Pixels, each: ScoredMask, colour: tuple[int, int, int], stroke_px: int) -> None:
    (x, y), crop = each.mask.origin_xy_px, each.mask.crop
    region = canvas[y : y + crop.shape[0], x : x + crop.shape[1]]
    tinted = region[crop] * (1 - OPACITY) + np.asarray(colour) * OPACITY
    region[crop] = tinted.astype(np.uint8)
    outlines, _ = cv2.findContours(crop.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    cv2.drawContours(canvas, outlines, -1, colour, stroke_px)


def _name(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    each: ScoredMask,
    colour: tuple[int, int, int],
) -> None:
    text = f"{each.label} {each.score:.2f}" if each.label is not None else f"{each.score:.2f}"
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = min(each.box_xyxy_px[0], each.mask.picture_hw[1] - width)
    y = each.box_xyxy_px[1] - height
    x, y = max(0.0, x), y if y >= 0 else each.box_xyxy_px[1]
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    pen.text((x + 3 - left, y + 3 - top), text, fill=(0, 0, 0), font=font)
