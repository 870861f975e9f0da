"""Mask logits of prompts already answered, so that the next click refines the mask instead of starting anew.

Keyed by the picture's embedding, the prompts themselves and how they were asked, never by user or request: whoever
places the same points on the same picture gets the same mask.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam3_backend.embeddings.embedding import EmbeddingKey
    from sam3_backend.prompts import Box, Point, PromptSet

    MaskLogits = npt.NDArray[np.float32]
    Key = tuple[EmbeddingKey, tuple[Point, ...], Box | None, bool | None]

MAX_BYTES = 64 * 1024**2
"""About 200 masks of 288 x 288 logits; what is forgotten is decoded again."""


class RefinementMemory:
    """A thread-safe, byte-bounded LRU of mask logits.

    Args:
        max_bytes: Most bytes kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, MaskLogits] = OrderedDict()
        self._nbytes = 0

    def get(self, picture: EmbeddingKey, prompt_set: PromptSet, multimask: bool | None = None) -> MaskLogits | None:
        """Mask logits that answered these prompts, (low, low) float32, or None."""
        key = _key(picture, prompt_set, multimask)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(
        self,
        picture: EmbeddingKey,
        prompt_set: PromptSet,
        mask_logits: MaskLogits,
        multimask: bool | None = None,
    ) -> None:
        """Remember the mask logits that answer these prompts, (low, low) float32."""
        key = _key(picture, prompt_set, multimask)
        mask_logits = mask_logits.copy()  # a view would keep all three candidates alive
        mask_logits.setflags(write=False)
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._kept[key] = mask_logits
            self._nbytes += mask_logits.nbytes - (replaced.nbytes if replaced is not None else 0)
            while self._nbytes > self._max_bytes:
                self._nbytes -= self._kept.popitem(last=False)[1].nbytes


def _key(picture: EmbeddingKey, prompt_set: PromptSet, multimask: bool | None) -> Key:
    return picture, prompt_set.points, prompt_set.box, multimask
