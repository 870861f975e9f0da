"""Where embeddings come from: a tier that has them, or the model, once for everybody who asks at the same time.

Callers say how to make an embedding and never see which tier answered, except for statistics.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
    from sam3_backend.embeddings.memory import MemoryTier


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What the store did since the process started.

    Attributes:
        hits: Requests answered from memory.
        joined: Requests that waited for an embedding somebody else was already making.
        misses: Requests for which the model ran.
        kept: Embeddings in memory now.
        kept_bytes: Their bytes.
    """

    hits: int
    joined: int
    misses: int
    kept: int
    kept_bytes: int


class EmbeddingStore:
    """Finds or makes embeddings; one picture is being encoded at most once at any moment.

    Args:
        memory: The tier in this process.
    """

    def __init__(self, memory: MemoryTier) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._in_flight: dict[EmbeddingKey, Future[Embedding]] = {}
        self._hits = self._joined = self._misses = 0

    def find(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding of ``key`` if a tier holds it; counted as a hit, a miss is not counted."""
        embedding = self._memory.get(key)
        if embedding is not None:
            with self._lock:
                self._hits += 1
        return embedding

    def get_or_make(self, key: EmbeddingKey, make: Callable[[], Embedding]) -> Embedding:
        """The embedding of ``key``.

        Args:
            key: What it depends on.
            make: Makes it; called by at most one thread at a time for one key. What it raises reaches everybody who
                waits for this key, and the next request tries again.
        """
        with self._lock:
            found = self._memory.get(key)
            if found is not None:
                self._hits += 1
                return found
            flight = self._in_flight.get(key)
            if flight is not None:
                self._joined += 1
            else:
                self._misses += 1
                mine = self._in_flight[key] = Future()
        if flight is not None:
            return flight.result()
        return self._make(key, make, mine)

    def statistics(self) -> StoreStatistics:
        """A snapshot of the counters."""
        with self._lock:
            return StoreStatistics(self._hits, self._joined, self._misses, len(self._memory), self._memory.nbytes)

    def _make(self, key: EmbeddingKey, make: Callable[[], Embedding], flight: Future[Embedding]) -> Embedding:
        try:
            embedding = make()
            self._memory.put(embedding)  # before the flight ends: nobody may see neither
            flight.set_result(embedding)
        except BaseException as fault:
            flight.set_exception(fault)
            raise
        finally:
            with self._lock:
                del self._in_flight[key]
        return embedding
