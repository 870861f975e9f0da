"""The store over both tiers, with a real Redis: what is shared, what happens when Redis misbehaves."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_backend.embeddings import codec
from sam3_backend.embeddings.breaker import Breaker
from sam3_backend.embeddings.codec import HostEmbedding, HostTensor
from sam3_backend.embeddings.costs import Costs
from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.redis import RedisTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.errors import CacheError
from tests.local_redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(tmp_path)
    yield running
    running.stop()


class HostTransfer:
    """Keeps tensors where they are: numpy arrays are host memory already."""

    def to_host(self, embedding: Embedding) -> HostEmbedding:
        tensors = {}
        for name, each in embedding.tensors.items():
            values = np.asarray(each)
            tensors[name] = HostTensor(str(values.dtype), values.shape, memoryview(values).cast("B"))
        return HostEmbedding(embedding.key, embedding.picture_hw, tensors)

    def from_host(self, embedding: HostEmbedding) -> Embedding:
        tensors = {
            name: np.frombuffer(each.values, dtype=np.float16).reshape(each.shape)
            for name, each in embedding.tensors.items()
        }
        return Embedding(embedding.key, embedding.picture_hw, tensors)


def key(name: str = "a") -> EmbeddingKey:
    return EmbeddingKey(content_hash=name, predictor_fingerprint="model")


def embedding(name: str = "a") -> Embedding:
    values = np.random.default_rng(7).standard_normal((5, 3)).astype(np.float16)
    return Embedding(key(name), (40, 50), {"vit": values, "clicks": values * 2})


def worker(server: Redis) -> EmbeddingStore:
    """What one worker process holds: its own memory, the shared Redis."""
    return EmbeddingStore(MemoryTier(10**6), RedisTier(server.url, ttl_s=60, timeout_s=0.2), HostTransfer())


def must_not_be_made() -> Embedding:
    raise AssertionError("the model ran although the embedding was to be had")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_embedding_made_by_one_worker_is_used_by_another(server: Redis) -> None:
    worker(server).get_or_make(key(), embedding)
    wait_for(lambda: server.client.dbsize() == 1)
    other = worker(server)
    fetched = other.get_or_make(key(), must_not_be_made)
    assert fetched.picture_hw == (40, 50)
    for name, values in embedding().tensors.items():
        np.testing.assert_array_equal(fetched.tensors[name], values)  # type: ignore[arg-type]
    assert (other.statistics().fetched, other.statistics().made) == (1, 0)


def test_two_workers_that_open_one_picture_encode_it_once(server: Redis) -> None:
    release, made = threading.Event(), []

    def slowly() -> Embedding:
        made.append(1)
        assert release.wait(10)
        return embedding()

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(worker(server).get_or_make(key(), slowly))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(made) == 1)
    time.sleep(0.2)  # the others have asked by now
    release.set()
    for thread in threads:
        thread.join(10)
    assert (len(made), len(results)) == (1, 4)


def test_embeddings_expire_and_leases_do_not_stay(server: Redis) -> None:
    worker(server).get_or_make(key(), embedding)
    wait_for(lambda: server.client.dbsize() == 1)
    (name,) = server.client.keys()
    assert 0 < server.client.ttl(name) <= 60


@pytest.mark.parametrize(
    "damage",
    [
        lambda _value: b"",
        lambda _value: b"somebody else's value, longer than the prefix",
        lambda value: value[:-1],
        lambda value: value[:-1] + bytes([value[-1] ^ 1]),
        lambda value: value.replace(b"SAM3EMB1", b"SAM3EMB0"),
        lambda _value: codec.to_bytes(HostTransfer().to_host(embedding("another picture"))),
    ],
    ids=["empty", "foreign", "truncated", "flipped bit", "another version", "another picture"],
)
def test_a_value_that_is_not_what_its_key_promises_is_removed_and_made_again(
    server: Redis, damage: Callable[[bytes], bytes]
) -> None:
    tier = RedisTier(server.url, ttl_s=60)
    tier.put(HostTransfer().to_host(embedding()))
    (name,) = server.client.keys()
    server.client.set(name, damage(server.client.get(name)))
    assert tier.get(key()) is None
    assert server.client.exists(name) == 0
    assert tier.counters.removed == 1
    with pytest.raises(CacheError):
        codec.from_bytes(damage(codec.to_bytes(HostTransfer().to_host(embedding()))), key())


def test_without_redis_requests_go_on_and_one_line_is_logged(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    server.stop()
    store = worker(server)
    for name in "abc":
        store.get_or_make(key(name), lambda name=name: embedding(name))
    assert store.statistics().made == 3
    assert sum("going on without it" in record.message for record in caplog.records) == 1
    server.start()


def test_a_redis_that_does_not_answer_delays_nobody_for_longer_than_its_time_out(server: Redis) -> None:
    tier = RedisTier(server.url, ttl_s=60, timeout_s=0.2)
    assert tier.get(key()) is None
    with server.frozen():
        assert tier.get(key()) is None
        assert tier.counters.faults == 1
        assert tier.get(key()) is None  # the breaker is open: Redis is not asked at all
        assert tier.counters.faults == 1


def test_a_full_redis_is_a_fault_and_not_an_error(server: Redis) -> None:
    server.client.config_set("maxmemory", "1mb")
    server.client.config_set("maxmemory-policy", "noeviction")
    tier = RedisTier(server.url, ttl_s=60)
    large = Embedding(key(), (4, 5), {"vit": np.zeros((1024, 1024), dtype=np.float16)})
    tier.put(HostTransfer().to_host(large))
    assert tier.counters.faults == 1


def test_a_worker_that_dies_while_encoding_does_not_keep_the_others_for_good(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam3_backend.embeddings.redis.LEASE_S", 0.3)
    dead = RedisTier(server.url, ttl_s=60)
    assert dead.try_lease(key()) is not None  # and never released
    store = worker(server)
    store.get_or_make(key(), embedding)
    assert store.statistics().made == 1


def test_a_failed_encode_frees_the_lease(server: Redis) -> None:
    def fail() -> Embedding:
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        worker(server).get_or_make(key(), fail)
    assert worker(server).get_or_make(key(), embedding).key == key()


def test_the_breaker_asks_again_after_growing_pauses() -> None:
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    assert breaker.failed()
    pauses = []
    for _ in range(7):
        started = now
        while not breaker.allows():
            now += 0.5
        pauses.append(now - started)
        breaker.failed()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert breaker.succeeded()
    assert breaker.allows()


def test_fetching_is_skipped_while_making_is_quicker_and_tried_now_and_then() -> None:
    costs = Costs()
    assert costs.fetching_pays()
    costs.fetched(0.5)
    costs.made(0.1)
    asked = [costs.fetching_pays() for _ in range(64)]
    assert sum(asked) == 2
    for _ in range(30):
        costs.made(2.0)
    assert costs.fetching_pays()
