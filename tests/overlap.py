"""How well a mask covers what was drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one picture, (height, width) bool; at least one has pixels."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def box_around(truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The box around an object as a mask, (height, width) bool."""
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    box = np.zeros_like(truth)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box
