"""Prompts that cannot be are not made."""

from __future__ import annotations

import math

import pytest

from sam3_backend.errors import InvalidPrompt
from sam3_backend.prompts import Box, Exemplar, Point, PromptSet

BOX = Box(0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001, 1.001])
def test_a_point_outside_the_picture_is_refused(value: float) -> None:
    with pytest.raises(InvalidPrompt, match="coordinate x"):
        Point(value, 0.5)
    with pytest.raises(InvalidPrompt, match="coordinate y"):
        Point(0.5, value)


def test_the_pictures_edges_belong_to_it() -> None:
    assert Point(0.0, 1.0).xy_px(640, 480) == (0.0, 480.0)


def test_pixels_are_not_rounded() -> None:
    assert Point(0.33333, 0.5).xy_px(1000, 3) == pytest.approx((333.33, 1.5))
    assert BOX.xyxy_px(101, 3) == pytest.approx((25.25, 1.5, 75.75, 3.0))


def test_a_point_is_positive_unless_it_says_otherwise() -> None:
    assert Point(0.5, 0.5).is_positive
    assert Exemplar(BOX).is_positive


@pytest.mark.parametrize("corners", [(0.5, 0.1, 0.5, 0.9), (0.1, 0.5, 0.9, 0.5), (0.9, 0.1, 0.1, 0.9)])
def test_a_box_without_area_is_refused(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(InvalidPrompt, match="width and a height"):
        Box(*corners)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.1])
@pytest.mark.parametrize("at", range(4))
def test_a_box_that_leaves_the_picture_is_refused(at: int, value: float) -> None:
    corners = [0.1, 0.1, 0.9, 0.9]
    corners[at] = value
    with pytest.raises(InvalidPrompt):
        Box(*corners)


@pytest.mark.parametrize("text", [None, "", "   "])
def test_a_set_that_asks_nothing_is_refused(text: str | None) -> None:
    with pytest.raises(InvalidPrompt, match="needs a point"):
        PromptSet(text=text)


@pytest.mark.parametrize("text_or_exemplar", [{"text": "car"}, {"exemplars": (Exemplar(BOX),)}])
@pytest.mark.parametrize("point_or_box", [{"points": (Point(0.5, 0.5),)}, {"box": BOX}])
def test_one_object_and_a_concept_are_never_asked_for_together(
    text_or_exemplar: dict[str, object], point_or_box: dict[str, object]
) -> None:
    with pytest.raises(InvalidPrompt, match="cannot be mixed"):
        PromptSet(**text_or_exemplar, **point_or_box)


def test_texts_and_exemplars_ask_for_a_concept_points_and_boxes_do_not() -> None:
    assert PromptSet(text="car").asks_for_concept
    assert PromptSet(exemplars=(Exemplar(BOX),)).asks_for_concept
    assert not PromptSet(points=(Point(0.5, 0.5),)).asks_for_concept
    assert not PromptSet(box=BOX).asks_for_concept


def test_equal_prompts_are_one_key() -> None:
    one, other = (PromptSet(points=(Point(0.5, 0.25),), label="a") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
