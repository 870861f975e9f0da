"""Where the mask logits that a further click refines come from: this process's memory, or the click decoder again.

Whoever places the same points on the same picture goes on from the same logits, wherever they were kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.refinement import Refinement, RefinementKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.embeddings.embedding import EmbeddingKey
    from sam3_backend.embeddings.refinement import MaskLogits
    from sam3_backend.prompts import PromptSet

MAX_BYTES = 64 * 1024**2
"""About 200 masks of 288 x 288 logits; what is forgotten is decoded again."""


class RefinementStore:
    """Finds mask logits that were decoded before, or has them decoded. Thread-safe.

    Args:
        memory: The tier in this process.
    """

    def __init__(self, memory: MemoryTier[Refinement] | None = None) -> None:
        self._memory: MemoryTier[Refinement] = MemoryTier(MAX_BYTES) if memory is None else memory

    def get_or_make(
        self, picture: EmbeddingKey, prompt_set: PromptSet, multimask: bool | None, make: Callable[[], MaskLogits]
    ) -> MaskLogits:
        """The mask logits that answer points and a box, (s, s) float32.

        Args:
            picture: Key of the picture's embedding.
            prompt_set: The points and the box.
            multimask: As the predictor is asked for.
            make: Has them decoded, and put here.
        """
        found = self._memory.get(RefinementKey.of(picture, prompt_set, multimask))
        return found.mask_logits if found is not None else make()

    def put(
        self, picture: EmbeddingKey, prompt_set: PromptSet, mask_logits: MaskLogits, multimask: bool | None
    ) -> None:
        """Remember the mask logits that answer points and a box; see ``get_or_make``."""
        mask_logits = mask_logits.copy()  # a view would keep all three candidates alive
        mask_logits.setflags(write=False)
        self._memory.put(Refinement(RefinementKey.of(picture, prompt_set, multimask), mask_logits))
