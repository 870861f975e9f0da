"""Where embeddings come from: this process's memory, a store shared by all workers, or the model.

One picture is fetched or encoded once for everybody in this process who asks at the same time, and encoded once for
those in others too, through ``sharing``. Callers say how to make an embedding and never see which tier answered, except
in statistics.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from sam3_backend.embeddings import freed_memory
from sam3_backend.embeddings.sharing import Sharing
from sam3_backend.errors import ModelBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
    from sam3_backend.embeddings.memory import MemoryTier
    from sam3_backend.embeddings.redis import RedisTier
    from sam3_backend.embeddings.sharing import Transfer

GIVE_BACK_EVERY = 64
"""Embeddings made between two times that freed memory is given back to the system."""


class Joinable(Protocol):
    """On what terms somebody waits for an embedding: ``scheduler.SharedTerms``."""

    @property
    def deadline(self) -> float | None:
        """Monotonic seconds after which nobody waits any more; None for never."""

    def join(self, other: Self) -> None:
        """Somebody else waits for the same embedding, on other terms."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """One embedding on its way, and the terms of whoever brings it.

    Attributes:
        terms: Those that whoever waits for the embedding joins.
        may_be_empty: Whether it is only looked for, so that it may land without one.
        landed: What comes in the end.
    """

    terms: Joinable | None
    may_be_empty: bool
    landed: Future[Embedding | None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What the store did since the process started.

    Attributes:
        hits: Requests answered from memory.
        joined: Requests that waited for an embedding somebody else in this process was already fetching or making.
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
    """Finds or makes embeddings; one picture is being fetched or encoded at most once at any moment.

    Args:
        memory: The tier in this process.
        shared: The tier shared by all workers, if there is one.
        transfer: Needed where there is a shared tier.
    """

    def __init__(
        self, memory: MemoryTier[Embedding], shared: RedisTier | None = None, transfer: Transfer | None = None
    ) -> None:
        self._memory = memory
        self._shared = Sharing(shared, transfer) if shared and transfer else None
        self._lock = threading.Lock()
        self._in_flight: dict[EmbeddingKey, _Flight] = {}
        self._hits = self._joined = self._fetched = self._made = 0

    def find(self, key: EmbeddingKey, terms: Joinable | None = None) -> Embedding | None:
        """The embedding of ``key`` if a tier has it, or another request of this process is making it.

        Args:
            key: What it depends on.
            terms: On what terms to wait for another request; see ``get_or_make``.

        Raises:
            ModelBusy: Another request is fetching or making it, and was not done before the deadline.
        """

        def fetch() -> tuple[Embedding | None, bool]:
            return (self._shared.fetch(key) if self._shared else None), False

        return self._once(key, fetch, _Flight(terms, may_be_empty=True))

    def get_or_make(self, key: EmbeddingKey, make: Callable[[], Embedding], terms: Joinable | None = None) -> Embedding:
        """The embedding of ``key``.

        Args:
            key: What it depends on.
            make: Makes it; called by at most one thread at a time for one key. What it raises reaches everybody who
                waits for this key, and the next request tries again.
            terms: On what terms ``make`` works. Where another request of this process is making the embedding already,
                its terms are told to join these.

        Raises:
            ModelBusy: Another request is fetching or making it, and was not done before the deadline.
        """

        def fetch_or_make() -> tuple[Embedding, bool]:
            return self._shared.get_or_make(key, make) if self._shared else (make(), True)

        while True:
            embedding = self._once(key, fetch_or_make, _Flight(terms, may_be_empty=False))
            if embedding is not None:  # else somebody looked for it who had no way to make it
                return embedding

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

    def _once(
        self, key: EmbeddingKey, bring: Callable[[], tuple[Embedding | None, bool]], mine: _Flight
    ) -> Embedding | None:
        """What memory has or somebody brings already; otherwise what ``bring`` does, and whether it had to be made."""
        with self._lock:
            found = self._memory.get(key)
            if found is not None:
                self._hits += 1
                return found
            flight = self._in_flight.setdefault(key, mine)
            if flight is not mine:
                if flight.terms is not None and mine.terms is not None:
                    flight.terms.join(mine.terms)
                self._joined += not flight.may_be_empty
        if flight is mine:
            return self._fly(key, bring, mine.landed)
        brought = _landed(flight.landed, mine.terms)
        if flight.may_be_empty and brought is not None:
            with self._lock:
                self._joined += 1
        return brought

    def _fly(
        self, key: EmbeddingKey, bring: Callable[[], tuple[Embedding | None, bool]], flight: Future[Embedding | None]
    ) -> Embedding | None:
        """Bring the embedding on behalf of everybody who waits for ``flight``."""
        try:
            embedding, was_made = bring()
            if embedding is not None:
                self._memory.put(embedding)  # before the flight ends: nobody may see neither
        except BaseException as fault:
            self._end(key)
            flight.set_exception(fault)
            raise
        self._end(key)
        flight.set_result(embedding)
        if embedding is not None:
            self._count(was_made=was_made)
        return embedding

    def _end(self, key: EmbeddingKey) -> None:
        """No longer show a flight to who asks; before it lands, for some of those who wait then ask again."""
        with self._lock:
            del self._in_flight[key]

    def _count(self, *, was_made: bool) -> None:
        with self._lock:
            self._made += was_made
            self._fetched += not was_made
            is_time = was_made and self._made % GIVE_BACK_EVERY == 0
        if is_time:  # beside the request, which must not wait for it
            threading.Thread(target=freed_memory.give_back, name="give-back", daemon=True).start()


def _landed(flight: Future[Embedding | None], terms: Joinable | None) -> Embedding | None:
    """What somebody else brings, waited for as long as the terms allow."""
    deadline = terms.deadline if terms else None
    wait([flight], timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
    if not flight.done():
        raise ModelBusy("The model was too busy to answer in time. Try again in a moment.")
    return flight.result()
