"""Measures a checkpoint on held-out pictures, through the package's public interface alone.

The pictures have backgrounds, sizes, aspects and line widths that training never draws. `python -m training.evaluate
CHECKPOINT` prints the table.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from training import words
from training.backgrounds import HELD_OUT_BACKGROUNDS
from training.concepts import jittered, members
from training.shapes import Instance, Scene, Settings, draw
from training.vocabulary import COLOURS, SHAPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sam3_backend import Predictor
    from sam3_backend.embeddings.embedding import Embedding
    from sam3_backend.masks import Mask

HELD_OUT = Settings(
    area_px=(420 * 420, 1100 * 1100),
    aspect=(0.55, 1.85),
    count=(3, 10),
    size=(0.04, 0.45),
    large_share=0.25,
    plain_share=0.0,
    backgrounds=HELD_OUT_BACKGROUNDS,
    ring_hole=(0.45, 0.7),
    cross_arm=(0.26, 0.45),
)
"""Pictures that training never draws; `size` starts at 4 % of the picture's side."""
HELD_OUT_SEED = 4_000_000_000
MATCH_IOU = 0.5
CLICKED_PER_PICTURE = 4


@dataclass
class Measured:
    """What was counted over all pictures.

    Attributes:
        iou: IoU of each answer by kind of prompt: click, three_clicks, box, refined (a click's mask fed back with a
            second click).
        size: diameter of each clicked object as a fraction of the picture's side, in the order of `iou`.
        found, spurious, missed: instances of present concepts.
        rejected: per absent concept, by kind, whether nothing was found.
        others: per other instance of an exemplar's kind, whether it was found.
        exemplar_spurious: detections of exemplar prompts that match nothing wanted.
    """

    iou: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    size: list[float] = field(default_factory=list)
    found: int = 0
    spurious: int = 0
    missed: int = 0
    rejected: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    others: list[bool] = field(default_factory=list)
    exemplar_spurious: int = 0

    def summary(self) -> dict[str, float]:
        """The figures of the table, each in [0, 1]."""
        means = {f"{kind}_iou": float(np.mean(values)) for kind, values in self.iou.items()}
        small = np.array(self.size) < 0.1
        click = np.array(self.iou["click"])
        absent = [right for rights in self.rejected.values() for right in rights]
        return {
            **means,
            "click_iou_below_tenth": float(click[small].mean()) if small.any() else float("nan"),
            "text_f1": 2 * self.found / max(1, 2 * self.found + self.spurious + self.missed),
            "text_precision": self.found / max(1, self.found + self.spurious),
            "text_recall": self.found / max(1, self.found + self.missed),
            "absent_specificity": float(np.mean(absent)),
            **{f"absent_{kind}": float(np.mean(rights)) for kind, rights in self.rejected.items()},
            "exemplar_recall": float(np.mean(self.others)),
            "exemplar_precision": sum(self.others) / max(1, sum(self.others) + self.exemplar_spurious),
        }


def evaluate(predictor: Predictor, pictures: int, first: int = 0) -> Measured:
    """Runs every kind of prompt on `pictures` held-out pictures, from number `first` on."""
    measured = Measured()
    for number in range(first, first + pictures):
        scene = draw(HELD_OUT_SEED + number, HELD_OUT)
        if not scene.instances:
            continue
        rng = random.Random(number)  # noqa: S311
        embedding = predictor.encode(scene.image)
        _clicks(predictor, embedding, scene, rng, measured)
        _texts(predictor, embedding, scene, rng, measured)
        _exemplars(predictor, embedding, scene, rng, measured)
    return measured


def _iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def _spot(rng: random.Random, allowed: NDArray[np.bool_]) -> tuple[float, float]:
    """A random allowed pixel's (x, y)."""
    places = np.flatnonzero(allowed)
    y, x = divmod(int(places[rng.randrange(len(places))]), allowed.shape[1])
    return float(x), float(y)


def _well_inside(mask: NDArray[np.bool_], depth: float) -> NDArray[np.bool_]:
    """Pixels at least `depth` times as far from the edge as the deepest one."""
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return (distance >= depth * distance.max()) & mask


def _beside(instance: Instance, others: NDArray[np.bool_], rng: random.Random) -> NDArray[np.bool_]:
    """Where a negative click makes sense: on another object if there is one, or outside but near."""
    if others.any() and rng.random() < 0.5:
        return _well_inside(others, 0.3)
    x1, y1, x2, y2 = instance.box
    away = cv2.distanceTransform((~instance.mask).astype(np.uint8), cv2.DIST_L2, 5)
    margin = max(x2 - x1, y2 - y1)
    near = (away > max(2.0, 0.08 * margin)) & (away < max(6.0, 0.5 * margin))
    return near if near.any() else ~instance.mask


def _clicks(predictor: Predictor, embedding: Embedding, scene: Scene, rng: random.Random, measured: Measured) -> None:
    """One click; three with a negative; a loosely drawn box; a second click on the first answer."""
    everything = np.any([each.mask for each in scene.instances], 0)
    side = float(np.sqrt(everything.size))
    for instance in rng.sample(scene.instances, min(CLICKED_PER_PICTURE, len(scene.instances))):
        truth = instance.mask
        first, second = (_spot(rng, _well_inside(truth, depth)) for depth in (0.5, 0.3))
        negative = _spot(rng, _beside(instance, everything & ~truth, rng))
        one = predictor.segment(embedding, points=[first])
        three = predictor.segment(embedding, points=[(*first, 1), (*second, 1), (*negative, 0)])
        height, width = truth.shape
        x1, y1, x2, y2 = instance.box
        drawn = jittered(rng, (x1 / width, y1 / height, x2 / width, y2 / height), 0.02)
        box = predictor.segment(embedding, box=np.array(drawn) * (width, height, width, height))
        error = one.masks[0].to_array() ^ truth
        place = _spot(rng, _well_inside(error, 0.5)) if error.any() else second
        label = int(truth[int(place[1]), int(place[0])])
        again = predictor.segment(embedding, points=[(*first, 1), (*place, label)], mask_logits=one.mask_logits[0])
        answers = {"click": one, "three_clicks": three, "box": box, "refined": again}
        for kind, answer in answers.items():
            measured.iou[kind].append(_iou(answer.masks[0].to_array(), truth))
        measured.size.append(max(x2 - x1, y2 - y1) / side)


def detections(
    predictor: Predictor,
    embedding: Embedding,
    text: str | None = None,
    exemplars: Sequence[Sequence[float]] | None = None,
) -> list[Mask]:
    """Masks at the checkpoint's own threshold, without duplicates if its configuration says so; best first."""
    from sam3_backend.masks import ScoredMask, suppress_duplicates

    answer = predictor.detect(embedding, text=text, exemplars=exemplars)
    scored = [ScoredMask(d.mask, d.box_xyxy_px, d.detection_score, "detection_score") for d in answer.found]
    if predictor.mask_nms_iou is not None:
        scored = suppress_duplicates(scored, predictor.mask_nms_iou)
    return [each.mask for each in scored]


def match(found: Sequence[Mask], truths: Sequence[NDArray[np.bool_]]) -> tuple[set[int], int]:
    """Greedy matching at `MATCH_IOU`, best detections first.

    Returns:
        Which truths were found, and how many detections matched none.
    """
    hit: set[int] = set()
    spurious = 0
    for mask in found:
        pixels = mask.to_array()
        overlaps = [(0.0 if i in hit else _iou(pixels, truth), i) for i, truth in enumerate(truths)]
        best, index = max(overlaps, default=(0.0, -1))
        if best >= MATCH_IOU:
            hit.add(index)
        else:
            spurious += 1
    return hit, spurious


def _texts(predictor: Predictor, embedding: Embedding, scene: Scene, rng: random.Random, measured: Measured) -> None:
    """Up to three concepts that are there; a near miss, any absent one and a foreign word that are not."""
    attributes = [(each.shape, each.colour) for each in scene.instances]
    present = sorted(set(attributes))
    for shape, colour in rng.sample(present, min(3, len(present))):
        wanted = [scene.instances[i].mask for i in members(attributes, shape, colour)]
        hit, spurious = match(detections(predictor, embedding, f"{colour} {shape}"), wanted)
        measured.found += len(hit)
        measured.missed += len(wanted) - len(hit)
        measured.spurious += spurious
    every = [(shape, colour) for shape in SHAPES for colour in COLOURS if (shape, colour) not in present]
    near = [pair for pair in every if any((pair[0] == s) != (pair[1] == c) for s, c in present)]
    asked = {"near_miss": rng.choice(near), "absent": rng.choice(every)}
    texts = {kind: f"{colour} {shape}" for kind, (shape, colour) in asked.items()}
    for kind, text in (texts | {"foreign_word": rng.choice(UNSEEN_WORDS)}).items():
        measured.rejected[kind].append(not detections(predictor, embedding, text))


UNSEEN_WORDS = (
    *("lemon", "wizard", "tractor", "violin", "spaceship", "dinosaur", "sandwich", "helicopter", "penguin", "castle"),
    *("backpack", "scissors", "mushroom", "octopus", "ladder", "candle", "feather", "rocket", "pumpkin", "anchor"),
)
"""Real words that training never shows as such (made-up words may contain their pieces)."""


def _exemplars(
    predictor: Predictor, embedding: Embedding, scene: Scene, rng: random.Random, measured: Measured
) -> None:
    """One box around one of several alike: are the others found?"""
    attributes = [(each.shape, each.colour) for each in scene.instances]
    for shape, colour in sorted(set(attributes)):
        alike = members(attributes, shape, colour)
        if len(alike) < 2:
            continue
        example = rng.choice(alike)
        truths = [scene.instances[i].mask for i in alike]
        hit, spurious = match(detections(predictor, embedding, exemplars=[scene.instances[example].box]), truths)
        measured.others += [alike.index(i) in hit for i in alike if i != example]
        measured.exemplar_spurious += spurious


def main() -> None:
    """Command line."""
    from sam3_backend import Predictor

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default="demo")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first picture")
    arguments = parser.parse_args()
    assert not set(UNSEEN_WORDS) & set(words.FOREIGN_WORDS)
    measured = evaluate(Predictor.load(arguments.checkpoint), arguments.pictures, arguments.first)
    for name, value in measured.summary().items():
        print(f"{name:24} {value:.3f}")


if __name__ == "__main__":
    main()
