from __future__ import annotations

import pytest

from sam3_backend.model.batching import most_at_once


@pytest.mark.parametrize(
    ("first_s", "further_s", "best"),
    [
        (0.010, 0.010, 1),  # a device that is full with one
        (0.010, 0.002, 4),  # one that is busy with starting
        (0.010, 0.0085, 1),  # too small a gain
        (0.060, 0.040, 2),  # four would keep a click waiting
        (0.200, 0.001, 1),
    ],
)
def test_as_many_pictures_go_together_as_gain_and_let_a_click_through(
    first_s: float, further_s: float, best: int
) -> None:
    assert most_at_once(lambda count: first_s + (count - 1) * further_s) == best


def test_nothing_larger_is_tried_than_what_gained() -> None:
    tried: list[int] = []

    def full(count: int) -> float:
        tried.append(count)
        return 0.01 * count

    most_at_once(full)
    assert tried == [1, 2]
