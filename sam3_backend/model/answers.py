"""What the predictor answers: masks with scores, nothing of the network in them.

Masks are drawn when they are read: bringing one to a large picture's size is work for the reader's thread, not for the
device, which has other pictures to look at meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, overload

import numpy as np

from sam3_backend.masks import Mask
from sam3_backend.model.postprocessing import LOGIT_LIMIT

if TYPE_CHECKING:
    import numpy.typing as npt

Drawing: TypeAlias = Callable[[], Mask]


@dataclass(frozen=True)
class Detection:
    """One instance of a concept.

    Attributes:
        drawing: Its pixels, or what draws them.
        box_xyxy_px: The detector's own box in pixels of the picture, sub-pixel, clipped to the picture.
        detection_score: Presence of the concept times confidence in this instance, [0, 1].
    """

    drawing: Mask | Drawing
    box_xyxy_px: tuple[float, float, float, float]
    detection_score: float

    @cached_property
    def mask(self) -> Mask:
        """Its pixels."""
        return self.drawing() if callable(self.drawing) else self.drawing


@dataclass(frozen=True, slots=True)
class Detections:
    """All instances of a concept in a picture.

    Attributes:
        found: Best first. Empty where the concept is absent: that is an answer, not an error.
        presence_score: How sure the model is that the concept is in the picture at all, [0, 1].
    """

    found: tuple[Detection, ...]
    presence_score: float


@dataclass(frozen=True)
class Segmentation:
    """The object that points and a box ask for.

    Attributes:
        masks: One, or three readings of an ambiguous click; best first, each drawn when it is read.
        iou_scores: The model's own estimate of each mask's IoU, [0, 1], same order.
        decoded: The mask decoder's logits, each (s, s) float32, same order, before holes are filled.
    """

    masks: Sequence[Mask]
    iou_scores: tuple[float, ...]
    decoded: Sequence[npt.NDArray[np.float32]]

    @cached_property
    def mask_logits(self) -> npt.NDArray[np.float32]:
        """(k, s, s) float32: ``decoded``, clamped to +-32. ``mask_logits[0]`` can be handed back with more points."""
        return np.stack(self.decoded).clip(-LOGIT_LIMIT, LOGIT_LIMIT)


class Drawings(Sequence[Mask]):
    """Masks, each drawn once, when it is read.

    Args:
        drawings: What draws them.
    """

    def __init__(self, drawings: Iterable[Drawing]) -> None:
        self._drawings = tuple(drawings)
        self._drawn: dict[int, Mask] = {}

    def __len__(self) -> int:
        return len(self._drawings)

    @overload
    def __getitem__(self, index: int) -> Mask: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Mask, ...]: ...

    def __getitem__(self, index: int | slice) -> Mask | tuple[Mask, ...]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(len(self))))
        position = range(len(self))[index]
        if position not in self._drawn:
            self._drawn[position] = self._drawings[position]()
        return self._drawn[position]
