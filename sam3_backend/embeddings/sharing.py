"""The shared tier as the store uses it: asked while that is quicker than encoding, written to behind the caller's back.

Knows neither how embeddings are kept in this process nor how the tier keeps them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from sam3_backend.embeddings.background import BackgroundWriter
from sam3_backend.embeddings.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.embeddings.codec import HostEmbedding
    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
    from sam3_backend.embeddings.redis import Lease, RedisTier


class Transfer(Protocol):
    """Brings embeddings from the device to the host and back: ``transfer.DeviceTransfer``."""

    def to_host(self, embedding: Embedding) -> HostEmbedding:
        """Copy an embedding into host memory."""

    def from_host(self, embedding: HostEmbedding) -> Embedding:
        """Copy an embedding onto the device."""


class Sharing:
    """The shared tier as one process uses it. Thread-safe.

    Args:
        tier: The tier that all workers share.
        transfer: Between it and the device.
    """

    def __init__(self, tier: RedisTier, transfer: Transfer) -> None:
        self._tier = tier
        self._transfer = transfer
        self._costs = Costs()
        self._writer = BackgroundWriter("embedding-writer")
        self.unwritten = 0

    def get_or_make(self, key: EmbeddingKey, make: Callable[[], Embedding]) -> tuple[Embedding, bool]:
        """The embedding, and whether it had to be made."""
        lease: Lease | None = None
        if self._costs.fetching_pays():  # else what another worker is making is not waited for either
            fetched = self._fetch(key)
            if fetched is not None:
                return fetched, False
            lease = self._tier.try_lease(key)
            if lease is None:
                others = self._tier.await_other(key)
                if others is not None:
                    return self._transfer.from_host(others), False
        try:
            started = time.perf_counter()
            embedding = make()
            self._costs.made(time.perf_counter() - started)
        except BaseException:
            if lease:
                lease.release()
            raise
        self._write(embedding, lease)
        return embedding, True

    def fetch(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding, if the tier has it and fetching pays."""
        return self._fetch(key) if self._costs.fetching_pays() else None

    def _fetch(self, key: EmbeddingKey) -> Embedding | None:
        started = time.perf_counter()
        stored = self._tier.get(key)
        if stored is None:
            return None
        embedding = self._transfer.from_host(stored)
        self._costs.fetched(time.perf_counter() - started)
        return embedding

    def _write(self, embedding: Embedding, lease: Lease | None) -> None:
        """Store the embedding in the background; whoever waits for the lease finds it when the lease ends."""

        def write() -> None:
            try:
                if not self._tier.put(self._transfer.to_host(embedding)):
                    self.unwritten += 1
            finally:
                if lease:
                    lease.release()

        if not self._writer.later(write):
            self.unwritten += 1
            if lease:
                lease.release()

    @property
    def faults(self) -> int:
        """Times the tier did not answer as it should."""
        return self._tier.counters.faults

    def flush(self) -> None:
        """Return once everything that waits to be written has been."""
        self._writer.flush()
