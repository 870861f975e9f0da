"""The second tier: embeddings and refinements shared by all workers through Redis.

Only this module, ``redis_access`` and ``redis_room`` know Redis.

Redis slow, full, down or restarted means slower, never wrong, and never an error: every fault here is counted, logged
once, and treated as a miss; after a fault nobody asks for a while. One that answers and only takes nothing is still
read. A value that is not what its key promises is removed.

Set ``maxmemory`` and ``maxmemory-policy allkeys-lru`` in Redis: it then keeps the pictures that are in use.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import LockError, RedisError, ResponseError

from sam3_backend.embeddings import codec
from sam3_backend.embeddings.breaker import Breaker
from sam3_backend.embeddings.redis_access import connect, in_words
from sam3_backend.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.lock import Lock

    from sam3_backend.embeddings.codec import HostEmbedding
    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
    from sam3_backend.embeddings.refinement import Refinement, RefinementKey

logger = logging.getLogger(__name__)

Stored = TypeVar("Stored")

REFINEMENT_TTL_S = 3600
"""Who refines an object places its next point within minutes, be it after a break; then the logits only take room."""
LEASE_S = 5.0
"""A worker that dies while it encodes keeps the others waiting for at most this long; one that lives renews it."""
LONGEST_WAIT_S = 90.0
"""Longest wait for another worker that goes on making an embedding; a full-size one takes a minute on a CPU."""
POLL_S = 0.02
HEADER_BYTES = 1024
"""No less than what a value has beside the tensors."""


@dataclass(slots=True)
class RedisCounters:
    """What happened at Redis since the process started."""

    hits: int = 0
    misses: int = 0
    faults: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one worker to make an embedding.

    Attributes:
        release: Gives it back; call it once the embedding is stored, or cannot be made.
    """

    release: Callable[[], None]


class RedisTier:
    """Embeddings and refinements in Redis, and the leases that keep two workers from encoding the same picture.

    Args:
        url: Its address; see ``redis_access.connect``.
        ttl_s: Seconds an embedding is kept after it was written.
        timeout_s: Longest wait for Redis to connect or to go on answering.

    Raises:
        SettingsError: The address cannot be used, whatever stands behind it.
    """

    def __init__(self, url: str, ttl_s: int, timeout_s: float = 1.0) -> None:
        self._redis = connect(url, timeout_s)
        self._ttl_s = ttl_s
        self._answers = Breaker()
        self._takes = Breaker()
        self.counters = RedisCounters()

    def get(self, key: EmbeddingKey) -> HostEmbedding | None:
        """The embedding of ``key``, or None."""
        return self._get(_name(key), lambda value: codec.from_bytes(value, key))

    def get_refinement(self, key: RefinementKey) -> Refinement | None:
        """The refinement of ``key``, or None."""
        return self._get(_refinement_name(key), lambda value: codec.refinement_from_bytes(value, key))

    def _get(self, name: str, read: Callable[[bytes], Stored]) -> Stored | None:
        value = self._ask(lambda: self._value(name), None)
        if value is None:
            self.counters.misses += 1
            return None
        try:
            stored = read(value)
        except CacheError as fault:
            logger.warning("Removing %s from Redis: %s", name, fault)
            self.counters.removed += 1
            self._ask(lambda: self._redis.delete(name), 0)
            return None
        self.counters.hits += 1
        return stored

    def _value(self, name: str) -> Any:
        """The value, or no bytes where it is of a kind that is never written here."""
        try:
            return self._redis.get(name)
        except ResponseError as fault:
            if not str(fault).startswith("WRONGTYPE"):
                raise
            return b""

    def put(self, embedding: HostEmbedding) -> bool:
        """Keep an embedding for every worker; False if Redis does not take it."""
        return self._put(_name(embedding.key), codec.to_bytes(embedding), self._ttl_s)

    def put_refinement(self, refinement: Refinement) -> bool:
        """Keep a refinement for every worker, for a while; False if Redis does not take it."""
        return self._put(_refinement_name(refinement.key), codec.refinement_to_bytes(refinement), REFINEMENT_TTL_S)

    def _put(self, name: str, value: bytes, ttl_s: int) -> bool:
        return bool(self._write(lambda: self._redis.set(name, value, ex=ttl_s), otherwise=False))

    @property
    def is_well(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._answers.is_closed

    def await_other(self, key: EmbeddingKey) -> HostEmbedding | None:
        """Wait while another worker makes the embedding of ``key``; None once nobody does any more."""
        deadline = time.monotonic() + LONGEST_WAIT_S
        while time.monotonic() < deadline:
            question = self._redis.pipeline().exists(_name(key)).exists(_lease_name(key))
            is_made, is_being_made = self._ask(question.execute, [0, 0])
            if is_made:
                return self.get(key)
            if not is_being_made:
                return None
            time.sleep(POLL_S)
        return None

    def try_lease(self, key: EmbeddingKey) -> Lease | None:
        """Take the right to make the embedding of ``key``.

        Returns:
            The lease, or None if another worker holds it. Without Redis everybody gets one: there is nobody to wait
            for.
        """
        lock = self._redis.lock(_lease_name(key), timeout=LEASE_S, thread_local=False)
        if not self._write(lambda: lock.acquire(blocking=False), otherwise=True):
            return None
        if lock.local.token is None:  # Redis did not give it: there is nothing to keep or to give back
            return Lease(lambda: None)
        is_over = threading.Event()
        threading.Thread(target=self._renew, args=(lock, is_over), name="lease", daemon=True).start()

        def release() -> None:
            is_over.set()
            self._ask(lambda: _unless_lost(lock.release), None)

        return Lease(release)

    def _renew(self, lock: Lock, is_over: threading.Event) -> None:
        while not is_over.wait(LEASE_S / 3):
            self._ask(lambda: _unless_lost(lock.reacquire), None)

    def _write(self, question: Callable[[], Any], otherwise: Any) -> Any:
        """As ``_ask``; where Redis answers and takes nothing, full or read-only, nothing is written for a while."""
        if not self._takes.allows():
            return otherwise

        def ask() -> Any:
            try:
                answer = question()
            except ResponseError as fault:
                self.counters.faults += 1
                if self._takes.failed():
                    logger.warning("Redis does not take embeddings; going on without. %s", in_words(fault))
                return otherwise
            if self._takes.succeeded():
                logger.info("Redis takes embeddings again.")
            return answer

        return self._ask(ask, otherwise)

    def _ask(self, question: Callable[[], Any], otherwise: Any) -> Any:
        """What Redis answers, or ``otherwise`` where it does not."""
        if not self._answers.allows():
            return otherwise
        try:
            answer = question()
        except (RedisError, OSError) as fault:
            self.counters.faults += 1
            if self._answers.failed():
                logger.warning("Redis does not answer as it should; going on without it. %s", in_words(fault))
            return otherwise
        if self._answers.succeeded():
            logger.info("Redis answers again.")
        return answer


def room_bytes(embedding: Embedding) -> int:
    """What Redis counts against its ``maxmemory`` for an embedding: a value takes a piece of memory of a fixed size.

    There are four sizes between two powers of two: those of jemalloc, http://jemalloc.net/jemalloc.3.html.
    """
    value_bytes = embedding.nbytes + HEADER_BYTES
    step = 1 << max(0, (value_bytes - 1).bit_length() - 3)
    return math.ceil(value_bytes / step) * step


def _unless_lost(act: Callable[[], object]) -> None:
    with suppress(LockError):  # run out or given back: whoever holds it now keeps it
        act()


def _name(key: EmbeddingKey) -> str:
    return f"sam3-backend:embedding:{key}"


def _refinement_name(key: RefinementKey) -> str:
    return f"sam3-backend:refinement:{key}"


def _lease_name(key: EmbeddingKey) -> str:
    return f"sam3-backend:lease:{key}"
