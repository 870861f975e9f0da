"""A checkpoint may ask that of one prompt's instances none is another one over again."""

from __future__ import annotations

import numpy as np

from sam3_backend.model.concepts import _distinct


def masks(*spans: tuple[int, int]) -> np.ndarray:
    """Masks of one row, each from a column to another."""
    drawn = np.zeros((len(spans), 4, 20), bool)
    for mask, (start, end) in zip(drawn, spans, strict=True):
        mask[1, start:end] = True
    return drawn


def test_the_worse_of_two_that_overlap_more_than_allowed_is_dropped() -> None:
    found = masks((0, 10), (1, 11), (12, 18), (0, 9))
    assert _distinct(found, 0.6) == [0, 2]
    assert _distinct(found, 0.85) == [0, 1, 2]


def test_an_overlap_that_is_just_allowed_is_kept() -> None:
    assert _distinct(masks((0, 10), (0, 5)), 0.5) == [0, 1]


def test_without_a_limit_all_are_kept_as_the_official_model_does() -> None:
    assert _distinct(masks((0, 10), (0, 10)), None) == [0, 1]


def test_an_empty_mask_is_no_instance() -> None:
    assert _distinct(masks((3, 3), (0, 10), (5, 5)), 0.5) == [1]
    assert _distinct(masks((3, 3)), None) == []
