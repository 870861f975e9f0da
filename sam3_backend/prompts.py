"""What a person asks of a picture: points, boxes, texts and exemplars.

Pure values. Coordinates are fractions of the upright picture's width and height, in [0, 1], so that a prompt can be
read from a request before anybody knows the picture's size; ``*_px`` methods turn them into pixels. This module does
not know Label Studio's percentages, the model's 1008-pixel frame, or tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_backend.errors import InvalidPrompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_POINTS = 100
"""Nobody clicks more often on one object; without a bound one request could occupy the model for minutes."""


@dataclass(frozen=True, slots=True)
class Point:
    """A click.

    Attributes:
        x: Fraction of the picture's width, [0, 1], sub-pixel.
        y: Fraction of the picture's height, [0, 1], sub-pixel.
        is_positive: True for "this", False for "not this".

    Raises:
        InvalidPrompt: A coordinate is not a number or lies outside the picture.
    """

    x: float
    y: float
    is_positive: bool = True

    def __post_init__(self) -> None:
        _require_fractions(("x", self.x), ("y", self.y))

    def xy_px(self, width_px: int, height_px: int) -> tuple[float, float]:
        """The point in pixels of a ``width_px`` x ``height_px`` picture."""
        return self.x * width_px, self.y * height_px


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, corners in reading order.

    Attributes:
        x1: Left edge, fraction of the picture's width, [0, 1].
        y1: Top edge, fraction of the picture's height, [0, 1].
        x2: Right edge, greater than ``x1``.
        y2: Bottom edge, greater than ``y1``.
        rotation_deg: Clockwise turn of the rectangle about its corner (x1, y1), as seen on the screen. The edges of a
            turned rectangle may lie outside the picture; the model is shown the upright box around it.

    Raises:
        InvalidPrompt: An edge is not a number, lies outside the picture, or the box has no area.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        edges = (("x1", self.x1), ("y1", self.y1), ("x2", self.x2), ("y2", self.y2))
        if self.rotation_deg:
            _require_numbers(*edges, ("rotation", self.rotation_deg))
        else:
            _require_fractions(*edges)
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise InvalidPrompt("A box needs a width and a height: drag it from one corner to the opposite one.")

    def xyxy_px(self, width_px: int, height_px: int) -> tuple[float, float, float, float]:
        """The box in pixels of a ``width_px`` x ``height_px`` picture, (x1, y1, x2, y2).

        Raises:
            InvalidPrompt: A turned rectangle lies outside the picture.
        """
        x1, y1, x2, y2 = self.x1 * width_px, self.y1 * height_px, self.x2 * width_px, self.y2 * height_px
        if not self.rotation_deg:
            return x1, y1, x2, y2
        # Only in pixels, where both axes have the same unit, is a turn a turn.
        cosine, sine = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        corners = [(x * cosine - y * sine, x * sine + y * cosine) for x in (0.0, x2 - x1) for y in (0.0, y2 - y1)]
        left, right = (min(max(x1 + reach(x for x, _ in corners), 0.0), width_px) for reach in (min, max))
        top, bottom = (min(max(y1 + reach(y for _, y in corners), 0.0), height_px) for reach in (min, max))
        if right <= left or bottom <= top:
            raise InvalidPrompt("The turned rectangle lies outside the picture.")
        return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A box around one instance of what is looked for, or of what is not.

    Attributes:
        box: Where the instance is.
        is_positive: True for "all like this", False for "nothing like this".
    """

    box: Box
    is_positive: bool = True


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts that together ask one question about a picture.

    Points and a box ask for the one object they touch (the click decoder answers). Text and exemplars ask for every
    instance of a concept (the detector answers). One set asks one of the two.

    Attributes:
        points: Clicks on and beside one object, in the order they were made.
        box: A box around one object.
        text: A noun phrase; at most 32 tokens for the model.
        exemplars: Boxes around instances of the concept.
        label: Name the answer will carry; the core passes it through untouched.

    Raises:
        InvalidPrompt: The set is empty, mixes the two kinds of question, or has more than ``MAX_POINTS`` points.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    text: str | None = None
    exemplars: tuple[Exemplar, ...] = ()
    label: str | None = None

    def __post_init__(self) -> None:
        asks_object = bool(self.points) or self.box is not None
        asks_concept = bool(self.text and self.text.strip()) or bool(self.exemplars)
        if asks_object and asks_concept:
            raise InvalidPrompt("Points and boxes for one object cannot be mixed with text or exemplars.")
        if not asks_object and not asks_concept:
            raise InvalidPrompt("A prompt needs a point, a box, a text or an exemplar.")
        if len(self.points) > MAX_POINTS:
            raise InvalidPrompt(f"One object takes at most {MAX_POINTS} points. Accept it and start a new one.")

    @property
    def asks_for_concept(self) -> bool:
        """True where the detector answers (text, exemplars), False where the click decoder does."""
        return self.text is not None or bool(self.exemplars)


def _require_numbers(*named: tuple[str, float]) -> None:
    for name, value in named:
        if not math.isfinite(value):
            raise InvalidPrompt(f"The coordinate {name} is not a number.")


def asked_together(prompt_sets: Sequence[PromptSet], texts_at_once: int) -> Iterator[list[PromptSet]]:
    """Prompt sets in their order, in groups that one model call answers.

    Args:
        prompt_sets: What is asked about one picture.
        texts_at_once: Most plain texts in a group; everything else is asked alone.
    """
    group: list[PromptSet] = []
    for each in prompt_sets:
        is_plain_text = each.asks_for_concept and not each.exemplars
        if group and (not is_plain_text or len(group) == texts_at_once):
            yield group
            group = []
        if is_plain_text:
            group.append(each)
        else:
            yield [each]
    if group:
        yield group


def _require_fractions(*named: tuple[str, float]) -> None:
    _require_numbers(*named)
    for name, value in named:
        if not 0.0 <= value <= 1.0:
            raise InvalidPrompt(f"The coordinate {name} lies outside the picture ({100 * value:g} %).")
