"""Where embeddings come from: this process's memory, a store shared by all workers, or the model.

One picture is encoded once for everybody who asks at the same time, in this process and in others. The shared store is
asked only while that is quicker than encoding. Callers say how to make an embedding and never see which tier answered,
except in statistics.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from sam3_backend.embeddings import freed_memory
from sam3_backend.embeddings.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.embeddings.codec import HostEmbedding
    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
    from sam3_backend.embeddings.memory import MemoryTier
    from sam3_backend.embeddings.redis import Lease, RedisTier

MAX_PENDING_WRITES = 8
"""Embeddings waiting to be written to the shared store; one more is not shared rather than held in memory."""

GIVE_BACK_EVERY = 64
"""Embeddings made between two times that freed memory is given back to the system."""


class Transfer(Protocol):
    """Brings embeddings from the device to the host and back: the predictor."""

    def to_host(self, embedding: Embedding) -> HostEmbedding:
        """Copy an embedding into host memory."""

    def from_host(self, embedding: HostEmbedding) -> Embedding:
        """Copy an embedding onto the device."""


class Joinable(Protocol):
    """On what terms somebody waits for an embedding: ``scheduler.SharedTerms``."""

    def join(self, other: Self) -> None:
        """Somebody else waits for the same embedding, on other terms."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """One embedding on its way, and the terms of whoever makes it."""

    terms: Joinable | None
    landed: Future[Embedding] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What the store did since the process started.

    Attributes:
        hits: Requests answered from memory.
        joined: Requests that waited for an embedding somebody else in this process was already making.
        fetched: Requests answered from the shared store.
        made: Requests for which the model ran.
        unwritten: Embeddings that were made and could not be shared.
        faults: Times the shared store did not answer as it should.
        kept: Embeddings in memory now.
        kept_bytes: Their bytes.
    """

    hits: int = 0
    joined: int = 0
    fetched: int = 0
    made: int = 0
    unwritten: int = 0
    faults: int = 0
    kept: int = 0
    kept_bytes: int = 0


class EmbeddingStore:
    """Finds or makes embeddings; one picture is being encoded at most once at any moment.

    Args:
        memory: The tier in this process.
        shared: The tier shared by all workers, if there is one.
        transfer: Needed where there is a shared tier.
    """

    def __init__(self, memory: MemoryTier, shared: RedisTier | None = None, transfer: Transfer | None = None) -> None:
        self._memory = memory
        self._shared = _Shared(shared, transfer) if shared and transfer else None
        self._lock = threading.Lock()
        self._in_flight: dict[EmbeddingKey, _Flight] = {}
        self._hits = self._joined = self._fetched = self._made = 0

    def find(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding of ``key`` if a tier has it."""
        found = self._memory.get(key)
        if found is not None:
            with self._lock:
                self._hits += 1
            return found
        fetched = self._shared.fetch(key) if self._shared else None
        if fetched is not None:
            self._memory.put(fetched)
            with self._lock:
                self._fetched += 1
        return fetched

    def get_or_make(self, key: EmbeddingKey, make: Callable[[], Embedding], terms: Joinable | None = None) -> Embedding:
        """The embedding of ``key``.

        Args:
            key: What it depends on.
            make: Makes it; called by at most one thread at a time for one key. What it raises reaches everybody who
                waits for this key, and the next request tries again.
            terms: On what terms ``make`` works. Where another request of this process is making the embedding already,
                its terms are told to join these.
        """
        with self._lock:
            found = self._memory.get(key)
            if found is not None:
                self._hits += 1
                return found
            flight = self._in_flight.get(key)
            if flight is not None:
                if flight.terms is not None and terms is not None:
                    flight.terms.join(terms)
                self._joined += 1
            else:
                mine = self._in_flight[key] = _Flight(terms)
        if flight is not None:
            return flight.landed.result()
        return self._fly(key, make, mine.landed)

    def make_room(self) -> None:
        """Forget every embedding in this process; those that requests are working with stay theirs."""
        self._memory.clear()

    def statistics(self) -> StoreStatistics:
        """A snapshot of the counters."""
        with self._lock:
            return StoreStatistics(
                hits=self._hits,
                joined=self._joined,
                fetched=self._fetched,
                made=self._made,
                unwritten=self._shared.unwritten if self._shared else 0,
                faults=self._shared.faults if self._shared else 0,
                kept=len(self._memory),
                kept_bytes=self._memory.nbytes,
            )

    def flush(self) -> None:
        """Return once every embedding made so far has been written to the shared tier, or given up."""
        if self._shared:
            self._shared.flush()

    def _fly(self, key: EmbeddingKey, make: Callable[[], Embedding], flight: Future[Embedding]) -> Embedding:
        """Find or make the embedding on behalf of everybody who waits for ``flight``."""
        try:
            embedding, was_made = self._shared.get_or_make(key, make) if self._shared else (make(), True)
            self._memory.put(embedding)  # before the flight ends: nobody may see neither
            flight.set_result(embedding)
        except BaseException as fault:
            flight.set_exception(fault)
            raise
        finally:
            with self._lock:
                del self._in_flight[key]
        with self._lock:
            self._made += was_made
            self._fetched += not was_made
            is_time = was_made and self._made % GIVE_BACK_EVERY == 0
        if is_time:
            freed_memory.give_back()
        return embedding


class _Shared:
    """The shared tier as the store uses it: asked when that pays, written to behind the caller's back."""

    def __init__(self, tier: RedisTier, transfer: Transfer) -> None:
        self._tier = tier
        self._transfer = transfer
        self._costs = Costs()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="embedding-writer")
        self._room = threading.Semaphore(MAX_PENDING_WRITES)
        self.unwritten = 0

    def get_or_make(self, key: EmbeddingKey, make: Callable[[], Embedding]) -> tuple[Embedding, bool]:
        """The embedding, and whether it had to be made."""
        fetched = self.fetch(key)
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
        if not self._costs.fetching_pays():
            return None
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
                self._room.release()
                if lease:
                    lease.release()

        if self._room.acquire(blocking=False):
            self._writer.submit(write)
            return
        self.unwritten += 1
        if lease:
            lease.release()

    @property
    def faults(self) -> int:
        """Times the tier did not answer as it should."""
        return self._tier.counters.faults

    def flush(self) -> None:
        """Return once everything that waits to be written has been."""
        self._writer.submit(lambda: None).result()
