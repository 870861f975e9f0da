"""Where the mask logits that a further click refines come from: memory, Redis, or the click decoder again.

Whoever places the same points on the same picture goes on from the same logits, bit for bit, wherever they were kept.
The next click waits for no store: what it answers is shared behind its back, and it asks Redis only where this
process's memory has nothing, Redis answered last time, and asking takes less time than decoding.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_backend.embeddings.background import BackgroundWriter
from sam3_backend.embeddings.costs import Costs
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.refinement import Refinement, RefinementKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.embeddings.embedding import EmbeddingKey
    from sam3_backend.embeddings.redis import RedisTier
    from sam3_backend.embeddings.refinement import MaskLogits
    from sam3_backend.prompts import PromptSet

MAX_BYTES = 64 * 1024**2
"""About 200 masks of 288 x 288 logits; what is forgotten is fetched or decoded again."""
DECODE_S = 0.13
"""Taken for the time of a decode until some were measured: that of SAM 3 on one CPU thread."""


@dataclass(frozen=True, slots=True)
class RefinementStatistics:
    """Where mask logits to refine came from since the process started.

    Attributes:
        hits: From memory.
        fetched: From Redis.
        made: From the click decoder, again.
    """

    hits: int = 0
    fetched: int = 0
    made: int = 0


class RefinementStore:
    """Finds mask logits that were decoded before, or has them decoded. Thread-safe.

    Args:
        memory: The tier in this process; None for one of ``MAX_BYTES``.
        shared: The tier shared by all workers, if there is one.
    """

    def __init__(self, memory: MemoryTier[Refinement] | None = None, shared: RedisTier | None = None) -> None:
        self._memory: MemoryTier[Refinement] = MemoryTier(MAX_BYTES) if memory is None else memory
        self._shared = shared
        self._writer = BackgroundWriter("refinement-writer")
        self._costs = Costs()
        self._costs.made(DECODE_S)
        self._lock = threading.Lock()
        self._found: Counter[str] = Counter()

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
        key = RefinementKey.of(picture, prompt_set, multimask)
        found = self._memory.get(key)
        if found is not None:
            self._count("hits")
            return found.mask_logits
        fetched = self._fetch(key)
        if fetched is not None:
            self._memory.put(fetched)
            self._count("fetched")
            return fetched.mask_logits
        started = time.perf_counter()
        made = make()
        self._costs.made(time.perf_counter() - started)
        self._count("made")
        return made

    def put(
        self, picture: EmbeddingKey, prompt_set: PromptSet, mask_logits: MaskLogits, multimask: bool | None
    ) -> None:
        """Remember the mask logits that answer points and a box; see ``get_or_make``."""
        mask_logits = mask_logits.copy()  # a view would keep all three candidates alive
        mask_logits.setflags(write=False)
        refinement = Refinement(RefinementKey.of(picture, prompt_set, multimask), mask_logits)
        self._memory.put(refinement)
        shared = self._shared
        if shared is not None:  # where there is no room to wait in, another worker decodes it again
            self._writer.later(lambda: shared.put_refinement(refinement))

    def statistics(self) -> RefinementStatistics:
        """A snapshot of the counters."""
        with self._lock:
            return RefinementStatistics(**self._found)

    def flush(self) -> None:
        """Return once everything put here so far has been written to the shared tier, or given up."""
        self._writer.flush()

    def _fetch(self, key: RefinementKey) -> Refinement | None:
        """What the shared tier has.

        Whether a Redis that failed is back is for the writes behind each click to find out: no click waits for it.
        """
        if self._shared is None or not self._shared.is_well or not self._costs.fetching_pays():
            return None
        started = time.perf_counter()
        fetched = self._shared.get_refinement(key)
        if self._shared.is_well:  # else that was a time-out, and says nothing of Redis once it is back
            self._costs.fetched(time.perf_counter() - started)
        return fetched

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._found[outcome] += 1
