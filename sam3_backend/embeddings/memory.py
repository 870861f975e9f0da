"""The first tier: embeddings kept in the process, as many as fit into a number of bytes.

Least recently used goes first. Knows neither Redis nor the model.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey


class MemoryTier:
    """A thread-safe, byte-bounded LRU of embeddings.

    Args:
        max_bytes: Most bytes of tensors kept; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[EmbeddingKey, Embedding] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of tensors kept now."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding of ``key``, or None; a hit makes it the most recently used."""
        with self._lock:
            embedding = self._kept.get(key)
            if embedding is not None:
                self._kept.move_to_end(key)
            return embedding

    def put(self, embedding: Embedding) -> None:
        """Keep an embedding, dropping the least recently used ones that no longer fit.

        One that is larger than the whole tier is not kept.
        """
        with self._lock:
            self._drop(embedding.key)
            if embedding.nbytes > self._max_bytes:
                return
            self._kept[embedding.key] = embedding
            self._nbytes += embedding.nbytes
            while self._nbytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._kept.clear()
            self._nbytes = 0

    def _drop(self, key: EmbeddingKey) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._nbytes -= dropped.nbytes
