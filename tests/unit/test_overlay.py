"""Drawn objects are seen where they are, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_backend.masks import Mask, ScoredMask
from sam3_backend.overlay import PALETTE, draw

HEIGHT_PX, WIDTH_PX = 300, 400


def square(x: int, y: int, label: str | None) -> ScoredMask:
    array = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    array[y : y + 80, x : x + 80] = True
    return ScoredMask(Mask.from_array(array), (x, y, x + 80, y + 80), 0.5, "detection_score", label)


def grey() -> np.ndarray:
    return np.full((HEIGHT_PX, WIDTH_PX, 3), 128, dtype=np.uint8)


def tint(drawn: np.ndarray, each: ScoredMask) -> tuple[int, ...]:
    x, y = each.mask.origin_xy_px
    return tuple(drawn[y + 60, x + 60])


def test_the_picture_itself_is_not_changed() -> None:
    picture = grey()
    draw(picture, [square(100, 100, "car")])
    assert (picture == 128).all()


def test_nothing_found_draws_nothing() -> None:
    assert (draw(grey(), []) == grey()).all()


def test_pixels_away_from_object_and_name_stay() -> None:
    drawn = draw(grey(), [square(100, 100, "car")])
    assert (drawn[200:] == 128).all()
    assert (drawn[:, 300:] == 128).all()
    assert (drawn[110:170, 110:170] != 128).any(axis=2).all()


def test_one_label_has_one_colour_and_others_have_others() -> None:
    car, other_car, bus = square(0, 100, "car"), square(100, 100, "car"), square(200, 100, "bus")
    drawn = draw(grey(), [car, other_car, bus])
    assert tint(drawn, car) == tint(drawn, other_car)
    assert tint(drawn, car) != tint(drawn, bus)


def test_objects_without_a_label_are_told_apart() -> None:
    one, other = square(0, 100, None), square(100, 100, None)
    drawn = draw(grey(), [one, other])
    assert tint(drawn, one) != tint(drawn, other)


@pytest.mark.parametrize("corner", [(0, 0), (WIDTH_PX - 80, 0), (0, HEIGHT_PX - 80), (WIDTH_PX - 80, HEIGHT_PX - 80)])
def test_names_stay_inside_the_picture(corner: tuple[int, int]) -> None:
    drawn = draw(grey(), [square(*corner, "a rather long name")])
    assert drawn.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert (drawn == PALETTE[0]).all(axis=2).sum() > 500  # the name's background


def test_more_objects_than_colours_are_drawn_all() -> None:
    found = [square(10 * number, 100, str(number)) for number in range(len(PALETTE) + 3)]
    assert draw(grey(), found).shape == (HEIGHT_PX, WIDTH_PX, 3)
