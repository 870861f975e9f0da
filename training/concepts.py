"""Prompts for a scene and what each should find.

A scene is known here by its attributes and boxes only. Knows nothing of pixels or tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training import words
from training.vocabulary import COLOURS, SHAPES, VISUAL

if TYPE_CHECKING:
    import random

Attributes = Sequence[tuple[str, str]]
"""(shape, colour) of each instance."""
Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in fractions of the picture's sides."""


@dataclass(frozen=True)
class Concept:
    """A text or exemplar prompt and its truth.

    Attributes:
        text: the phrase.
        exemplars: (box, label) pairs, label 1 for "like this", 0 for "not like this".
        targets: indices of the instances to find.
    """

    text: str
    exemplars: tuple[tuple[Box, int], ...]
    targets: tuple[int, ...]


def members(attributes: Attributes, shape: str | None, colour: str | None) -> tuple[int, ...]:
    """Indices of the instances of a concept; None leaves shape or colour open."""
    return tuple(
        i for i, (s, c) in enumerate(attributes) if (shape is None or s == shape) and (colour is None or c == colour)
    )


def text_concept(rng: random.Random, attributes: Attributes) -> Concept:
    """A phrase: six in ten present in the picture, the others absent, mostly by a hair."""
    chance = rng.random()
    if attributes and chance < 0.62:
        shape, colour = _loosened(rng, *rng.choice(attributes))
    elif chance < 0.9 or not attributes:
        shape, colour = _near_miss(rng, attributes)
    else:
        return Concept(words.foreign_phrase(rng), (), ())
    return Concept(words.phrase(rng, colour, shape), (), members(attributes, shape, colour))


def _loosened(rng: random.Random, shape: str, colour: str) -> tuple[str | None, str | None]:
    chance = rng.random()
    if chance < 0.55:
        return shape, colour
    if chance < 0.77:
        return shape, None
    return (None, colour) if chance < 0.91 else (None, None)


def _near_miss(rng: random.Random, attributes: Attributes) -> tuple[str | None, str | None]:
    chance = rng.random()
    if attributes and chance < 0.65:
        shape, colour = rng.choice(attributes)
        return (rng.choice(SHAPES), colour) if rng.random() < 0.6 else (shape, rng.choice(COLOURS))
    if chance < 0.78:
        return rng.choice(SHAPES), rng.choice(COLOURS)
    return (None, rng.choice(COLOURS)) if chance < 0.88 else (rng.choice(SHAPES), None)


def exemplar_concept(rng: random.Random, attributes: Attributes, boxes: Sequence[Box]) -> Concept:
    """Boxes that say "like this" or "not like this", alone (text "visual") or beside a phrase."""
    if not attributes:
        return Concept(VISUAL, (), ())
    every = range(len(attributes))
    index = rng.choice((_repeated(attributes) or every) if rng.random() < 0.6 else every)
    shape, colour = attributes[index]
    own = (jittered(rng, boxes[index]), 1)
    chance = rng.random()
    if chance < 0.8 or len(attributes) < 2:
        targets = members(attributes, shape, colour)
        exemplars = [own]
        second = rng.choice(targets)
        if second != index and rng.random() < 0.3:
            exemplars.append((jittered(rng, boxes[second]), 1))
        others = [i for i in range(len(attributes)) if i not in targets]
        if others and rng.random() < 0.2:
            exemplars.append((jittered(rng, boxes[rng.choice(others)]), 0))
        return Concept(VISUAL, tuple(exemplars), targets)
    if chance < 0.88:
        wanted = colour if rng.random() < 0.5 else None
        return Concept(words.phrase(rng, wanted, shape), (own,), members(attributes, shape, wanted))
    unwanted = members(attributes, shape, colour)
    by_shape = rng.random() < 0.5
    text = words.phrase(rng, None, shape) if by_shape else words.phrase(rng, colour, None)
    family = members(attributes, shape, None) if by_shape else members(attributes, None, colour)
    return Concept(text, ((own[0], 0),), tuple(i for i in family if i not in unwanted))


def _repeated(attributes: Attributes) -> list[int]:
    return [i for i, pair in enumerate(attributes) if list(attributes).count(pair) > 1]


def jittered(rng: random.Random, box: Box, amount: float = 0.06) -> Box:
    """The box with each edge moved by up to `amount` of its width or height, as a hand would draw it."""
    x1, y1, x2, y2 = box
    wide, high = amount * (x2 - x1), amount * (y2 - y1)
    dx1, dy1, dx2, dy2 = (rng.uniform(-1, 1) for _ in range(4))
    left, right = max(0.0, x1 + dx1 * wide), min(1.0, x2 + dx2 * wide)
    return left, max(0.0, y1 + dy1 * high), right, min(1.0, y2 + dy2 * high)
