"""Draws the model card's picture: prompts and answers on held-out pictures, one column a kind of prompt.

`python -m training.gallery docs/demo-checkpoint.png`. Knows the package's public interface alone.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from training.evaluate import HELD_OUT, HELD_OUT_SEED, detections
from training.shapes import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_backend import Predictor
    from training.shapes import Scene

SIDE_PX = 300
CAPTION_PX = 18
TINTS = ((255, 64, 160), (64, 160, 255), (255, 200, 0), (80, 220, 120), (190, 110, 255), (255, 130, 60))


def overlay(image: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> Image.Image:
    """The picture in grey with each mask tinted and outlined."""
    grey = image.mean(-1, keepdims=True).repeat(3, -1) * 0.6 + 80
    for mask, tint in zip(masks, TINTS * 4, strict=False):
        inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        edge = mask & ~np.pad(inner, 1)
        grey[mask] = 0.45 * grey[mask] + 0.55 * np.array(tint)
        grey[edge] = tint
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def _row(predictor: Predictor, scene: Scene, rng: random.Random) -> list[tuple[str, Image.Image]]:
    embedding = predictor.encode(scene.image)
    instance = rng.choice(scene.instances)
    x1, y1, x2, y2 = instance.box
    places = np.argwhere(instance.mask)
    y, x = (int(v) for v in places[len(places) // 2])
    click = overlay(scene.image, [predictor.segment(embedding, points=[(x, y)]).masks[0].to_array()])
    ImageDraw.Draw(click).ellipse((x - 5, y - 5, x + 5, y + 5), fill=(255, 255, 255), outline=(0, 0, 0))
    box = overlay(scene.image, [predictor.segment(embedding, box=instance.box).masks[0].to_array()])
    ImageDraw.Draw(box).rectangle((x1, y1, x2, y2), outline=(255, 255, 255), width=2)
    name = f"{instance.colour} {instance.shape}"
    words = overlay(scene.image, [mask.to_array() for mask in detections(predictor, embedding, name)])
    alike = overlay(scene.image, [m.to_array() for m in detections(predictor, embedding, exemplars=[instance.box])])
    ImageDraw.Draw(alike).rectangle((x1, y1, x2, y2), outline=(255, 255, 255), width=2)
    every = overlay(scene.image, [mask.to_array() for mask in detections(predictor, embedding, "objects")])
    titles = ("click", "box", f'"{name}"', "exemplar box", '"objects"')
    return [("picture", Image.fromarray(scene.image)), *zip(titles, (click, box, words, alike, every), strict=True)]


def gallery(predictor: Predictor, numbers: Sequence[int]) -> Image.Image:
    """One row for each held-out picture."""
    rows = [_row(predictor, draw(HELD_OUT_SEED + n, HELD_OUT), random.Random(n)) for n in numbers]  # noqa: S311
    for cell in (cell for row in rows for _, cell in row):
        cell.thumbnail((SIDE_PX - 6, SIDE_PX - 6))
    heights = [CAPTION_PX + max(cell.height for _, cell in row) + 6 for row in rows]
    sheet = Image.new("RGB", (len(rows[0]) * SIDE_PX, sum(heights)), "white")
    for r, row in enumerate(rows):
        for c, (title, cell) in enumerate(row):
            left, top = c * SIDE_PX, sum(heights[:r])
            sheet.paste(cell, (left + (SIDE_PX - cell.width) // 2, top + CAPTION_PX))
            ImageDraw.Draw(sheet).text((left + 6, top + 3), title, fill="black")
    return sheet


def main() -> None:
    """Command line."""
    from sam3_backend import Predictor

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--pictures", type=int, nargs="+", default=[2000, 2001, 2002, 2003])
    arguments = parser.parse_args()
    gallery(Predictor.load(arguments.checkpoint), arguments.pictures).save(arguments.file, optimize=True)


if __name__ == "__main__":
    main()
