"""How many pictures a device should look at in one pass: tried out, not assumed.

Knows neither pictures nor the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TRIED = (2, 4)
LEAST_GAIN = 0.1
"""Share of a picture's time that a larger pass must save, to be worth its memory."""
LONGEST_S = 0.15
"""A click that comes during a pass waits for its end: longer ones would be noticed."""


def most_at_once(seconds_of: Callable[[int], float]) -> int:
    """The number of pictures from which more gain nothing.

    Args:
        seconds_of: Seconds that a pass over so many pictures takes.
    """
    best, best_s = 1, seconds_of(1)
    for count in TRIED:
        took_s = seconds_of(count)
        if took_s > LONGEST_S or took_s / count > (1 - LEAST_GAIN) * best_s:
            break
        best, best_s = count, took_s / count
    return best
