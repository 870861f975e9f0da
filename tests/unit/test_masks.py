"""Masks kept as crops say the same as masks kept whole, whatever their shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from sam3_backend.masks import Mask, ScoredMask, small_holes, suppress_duplicates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam3_backend.masks import BoolArray


def arrays() -> Iterator[BoolArray]:
    """Random masks of many densities and sizes, and the shapes that break things."""
    random = np.random.default_rng(11)
    for height, width in [(1, 1), (1, 9), (9, 1), (7, 5), (16, 33), (64, 48)]:
        yield np.zeros((height, width), dtype=bool)
        yield np.ones((height, width), dtype=bool)
        for density in (0.02, 0.3, 0.9):
            yield random.random((height, width)) < density
    corners = np.zeros((12, 10), dtype=bool)
    corners[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    yield corners
    wrapped = np.zeros((4, 6), dtype=bool)
    wrapped[1, 3:] = wrapped[2, :2] = True
    yield wrapped


@pytest.mark.parametrize("array", list(arrays()), ids=lambda array: f"{array.shape}-{array.sum()}")
class TestAnyMask:
    def test_comes_back_as_it_went_in(self, array: BoolArray) -> None:
        assert np.array_equal(Mask.from_array(array).to_array(), array)

    def test_keeps_nothing_but_its_extent(self, array: BoolArray) -> None:
        crop = Mask.from_array(array).crop
        if array.any():
            edges = (crop[0], crop[-1], crop[:, 0], crop[:, -1])
            assert all(edge.any() for edge in edges)
        else:
            assert crop.size == 0

    def test_knows_its_area_and_box(self, array: BoolArray) -> None:
        mask = Mask.from_array(array)
        assert mask.area_px == array.sum()
        x1, y1, x2, y2 = mask.box_xyxy_px
        assert array[y1:y2, x1:x2].sum() == array.sum()

    def test_tells_where_runs_begin_and_end(self, array: BoolArray) -> None:
        transitions = Mask.from_array(array).transitions()
        rebuilt = np.zeros(array.size, dtype=bool)
        for begin, end in zip(transitions[::2], transitions[1::2], strict=True):
            rebuilt[begin:end] = True
        assert np.array_equal(rebuilt.reshape(array.shape), array)
        assert np.all(np.diff(transitions) > 0)

    def test_overlaps_as_whole_masks_do(self, array: BoolArray) -> None:
        mask = Mask.from_array(array)
        for other in (array, ~array, np.roll(array, 1, axis=1), np.flip(array)):
            shared, union = (array & other).sum(), (array | other).sum()
            assert mask.intersection_px(Mask.from_array(other)) == shared
            assert mask.iou(Mask.from_array(other)) == pytest.approx(shared / union if union else 0.0)


def test_a_crop_with_empty_edges_has_the_box_of_its_pixels() -> None:
    crop = np.zeros((5, 6), dtype=bool)
    crop[2, 3] = True
    assert Mask(crop, (10, 20), (100, 100)).box_xyxy_px == (13, 22, 14, 23)


def test_a_mask_cannot_be_changed() -> None:
    mask = Mask.from_array(np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="read-only"):
        mask.crop[0, 0] = False


@pytest.mark.parametrize("origin", [(-1, 0), (0, -1), (3, 0), (0, 4)])
def test_a_crop_never_leaves_its_picture(origin: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="leaves the 5x6 picture"):
        Mask(np.ones((3, 3), dtype=bool), origin, (6, 5))


def test_the_source_of_a_mask_may_change_afterwards() -> None:
    array = np.ones((3, 3), dtype=bool)
    mask = Mask.from_array(array)
    array[:] = False
    assert mask.area_px == 9


def scored(x: int, width: int, score: float) -> ScoredMask:
    array = np.zeros((10, 100), dtype=bool)
    array[:, x : x + width] = True
    return ScoredMask(Mask.from_array(array), (x, 0.0, x + width, 10.0), score, "detection_score")


def test_of_two_that_overlap_the_better_stays() -> None:
    worse, better, apart = scored(0, 20, 0.5), scored(2, 20, 0.9), scored(50, 20, 0.1)
    assert suppress_duplicates([worse, apart, better], max_iou=0.5) == [better, apart]


def test_an_overlap_of_exactly_the_limit_is_allowed() -> None:
    first, second = scored(0, 20, 0.9), scored(10, 20, 0.8)
    assert first.mask.iou(second.mask) == pytest.approx(1 / 3)
    assert len(suppress_duplicates([first, second], max_iou=first.mask.iou(second.mask))) == 2


def test_small_holes_are_found_and_large_ones_left() -> None:
    foreground = np.ones((20, 20), dtype=bool)
    foreground[2:4, 2:4] = False
    foreground[10:16, 10:16] = False
    holes = small_holes(foreground, max_area_px=4)
    assert holes.sum() == 4
    assert holes[2:4, 2:4].all()


def test_holes_that_touch_by_a_corner_are_one() -> None:
    foreground = np.ones((9, 9), dtype=bool)
    foreground[[2, 3, 4], [2, 3, 4]] = False
    assert small_holes(foreground, max_area_px=2).sum() == 0
    assert small_holes(foreground, max_area_px=3).sum() == 3


def test_without_foreground_or_background_nothing_is_a_hole() -> None:
    assert not small_holes(np.ones((5, 5), dtype=bool), 256).any()
    assert small_holes(np.zeros((5, 5), dtype=bool), 24).sum() == 0


@pytest.mark.parametrize("margin_px", [0, 1, 2, 12])
def test_holes_are_the_same_wherever_the_object_lies(margin_px: int) -> None:
    random = np.random.default_rng(margin_px)
    for limit_px in (1, 3, 60, 10_000):
        foreground = np.zeros((64, 80), dtype=bool)
        inner = foreground[margin_px : 64 - margin_px, margin_px : 80 - margin_px]
        inner[:] = random.random(inner.shape) > 0.4
        _, labels = cv2.connectedComponents((~foreground).astype(np.uint8), connectivity=8)
        areas_px = np.bincount(labels[~foreground])
        expected = ~foreground & (areas_px[np.where(foreground, 1, labels)] <= limit_px)
        assert np.array_equal(small_holes(foreground, limit_px), expected)


def test_what_surrounds_a_small_object_is_measured_to_the_edges() -> None:
    foreground = np.zeros((20, 20), dtype=bool)
    foreground[8:12, 8:12] = True
    assert not small_holes(foreground, max_area_px=383).any()
    assert small_holes(foreground, max_area_px=384).sum() == 384
