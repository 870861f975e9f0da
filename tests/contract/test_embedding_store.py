"""The store over both tiers, with a real Redis: what is shared, what happens when Redis misbehaves."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_backend.embeddings import breaker as breaker_module
from sam3_backend.embeddings import codec
from sam3_backend.embeddings import redis as redis_module
from sam3_backend.embeddings.breaker import Breaker
from sam3_backend.embeddings.codec import HostEmbedding, HostTensor
from sam3_backend.embeddings.costs import Costs
from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.redis import LEASE_S, RedisTier, room_bytes
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.errors import CacheError
from tests.local_redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("side", [300, 475, 512, 1300, 3256])
def test_how_much_room_an_embedding_takes_is_what_redis_counts(server: Redis, side: int) -> None:
    made = Embedding(key(), (4, 5), {"vit": np.zeros((side, side), dtype=np.float16)})
    assert RedisTier(server.url, ttl_s=60).put(HostTransfer().to_host(made))
    (name,) = server.client.keys()
    assert server.client.memory_usage(name) == pytest.approx(room_bytes(made), rel=0.01)


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


def test_being_used_does_not_put_off_when_an_embedding_expires(server: Redis) -> None:
    maker, other = worker(server), worker(server)
    maker.get_or_make(key(), embedding)
    maker.flush()
    (name,) = server.client.keys("*embedding*")
    server.client.pexpire(name, 5000)
    other.get_or_make(key(), must_not_be_made)
    assert 0 < server.client.pttl(name) <= 5000
    server.client.delete(name)
    maker.get_or_make(key(), must_not_be_made)  # in memory nothing expires


def with_header(header: object, values: bytes = b"") -> bytes:
    """A value whose checksum is right, whatever it says."""
    head = json.dumps(header).encode()
    return codec.PREFIX.pack(codec.EMBEDDING_MAGIC, len(head), zlib.crc32(head + values)) + head + values


def header(**changes: object) -> dict[str, object]:
    """What an embedding of two values says of itself, but for some changes."""
    described = {"key": str(key()), "picture_hw": [4, 5], "tensors": [["vit", "float16", [2]]]}
    return described | changes


def test_the_header_that_the_next_test_changes_is_a_good_one() -> None:
    assert codec.from_bytes(with_header(header(), b"1234"), key()).picture_hw == (4, 5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _value: b"",
        lambda _value: b"somebody else's value, longer than the prefix",
        lambda value: value[:-1],
        lambda value: value[:-1] + bytes([value[-1] ^ 1]),
        lambda value: value.replace(b"SAM3EMB1", b"SAM3EMB0"),
        lambda _value: codec.to_bytes(HostTransfer().to_host(embedding("another picture"))),
        lambda _value: with_header("no object"),
        lambda _value: with_header({"key": str(key())}),
        lambda _value: with_header(header(tensors=[["vit", "int7", [2]]]), b"1234"),
        lambda _value: with_header(header(picture_hw=4), b"1234"),
        lambda _value: with_header(header(), b"123"),
        lambda _value: with_header(header(), b"12345678"),
    ],
    ids=[
        *("empty", "foreign", "truncated", "flipped bit", "another version", "another picture"),
        *("no header", "half a header", "unknown dtype", "no size", "too few values", "too many values"),
    ],
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


def test_another_kind_of_value_is_removed_too_and_no_fault_of_redis(server: Redis) -> None:
    tier = RedisTier(server.url, ttl_s=60)
    tier.put(HostTransfer().to_host(embedding()))
    (name,) = server.client.keys()
    server.client.delete(name)
    server.client.rpush(name, "a", "list")
    assert tier.get(key()) is None
    assert server.client.exists(name) == 0
    assert (tier.counters.removed, tier.counters.faults) == (1, 0)


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


def test_a_full_redis_is_still_read_and_said_to_be_full_once(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    maker = worker(server)
    maker.get_or_make(key("known"), lambda: embedding("known"))
    maker.flush()
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", "1")
    store = worker(server)
    for name in "abc":
        store.get_or_make(key(name), lambda name=name: embedding(name))
        store.flush()
    store.get_or_make(key("known"), must_not_be_made)
    assert (store.statistics().made, store.statistics().unwritten, store.statistics().fetched) == (3, 3, 1)
    assert store.statistics().faults >= 1
    (line,) = (record.message for record in caplog.records)
    assert "does not take embeddings" in line
    assert "maxmemory-policy allkeys-lru" in line


def test_a_redis_that_has_room_again_is_written_to_again(
    server: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker_module, "FIRST_PAUSE_S", 0.01)
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", "1")
    store = worker(server)
    store.get_or_make(key("a"), lambda: embedding("a"))
    store.flush()
    server.client.config_set("maxmemory", "0")
    assert server.client.keys("*embedding*") == []
    with caplog.at_level("INFO"):
        assert_shared_again(store, server)
    assert "Redis takes embeddings again." in caplog.text


def assert_shared_again(store: EmbeddingStore, server: Redis) -> None:
    """Sooner or later what is made is written again."""
    names = (f"later {number}" for number in itertools.count())

    def is_written() -> bool:
        name = next(names)
        store.get_or_make(key(name), lambda: embedding(name))
        store.flush()
        return server.client.keys("*embedding*") != []

    wait_for(is_written)


def test_a_redis_that_is_restarted_in_the_middle_of_a_request_is_used_again(
    server: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker_module, "FIRST_PAUSE_S", 0.01)
    store = worker(server)

    def restart_meanwhile() -> Embedding:
        server.stop()
        server.start()
        return embedding("a")

    assert store.get_or_make(key("a"), restart_meanwhile).key == key("a")
    with caplog.at_level("INFO"):
        assert_shared_again(store, server)


def test_without_redis_nothing_seems_to_answer_again(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    server.stop()
    tier = RedisTier(server.url, ttl_s=60, timeout_s=0.2)
    lease = tier.try_lease(key())
    assert lease is not None
    tier._answers._ask_again_at = 0.0  # its pause is over
    with caplog.at_level("INFO"):
        lease.release()
    assert [record.message for record in caplog.records if "again" in record.message] == []
    server.start()


def test_a_worker_that_is_killed_while_encoding_does_not_keep_the_others_for_good(server: Redis) -> None:
    take = (
        "import sys\n"
        "from sam3_backend.embeddings import redis\n"
        "from tests.contract.test_embedding_store import key\n"
        "lease = redis.RedisTier(sys.argv[1], ttl_s=60).try_lease(key())\n"
        "print('taken' if lease else 'not taken', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", take, server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
    finally:
        holder.kill()
        holder.communicate()
    (lease,) = server.client.keys("*lease*")
    assert 0 < server.client.pttl(lease) <= 1000 * LEASE_S
    store = worker(server)
    store.get_or_make(key(), embedding)
    assert store.statistics().made == 1


def assert_a_lease_is_renewed(tier: RedisTier, server: Redis) -> None:
    """A lease that is held comes to have more time left than it had, and is gone once it is given back."""
    lease = tier.try_lease(key())
    assert lease is not None
    (name,) = server.client.keys("*lease*")
    left_ms = [server.client.pttl(name)]

    def is_renewed() -> bool:
        left_ms.append(server.client.pttl(name))
        return left_ms[-1] > left_ms[-2]

    wait_for(is_renewed)
    lease.release()
    assert server.client.exists(name) == 0


def test_a_worker_that_takes_long_keeps_its_lease(server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "LEASE_S", 3.0)
    assert_a_lease_is_renewed(RedisTier(server.url, ttl_s=60), server)


def test_redis_is_not_asked_for_embeddings_while_making_them_is_quicker(server: Redis) -> None:
    class SlowTransfer(HostTransfer):
        def from_host(self, embedding: HostEmbedding) -> Embedding:
            time.sleep(0.2)
            return super().from_host(embedding)

    names = [f"picture {number}" for number in range(10)]
    maker_tier = RedisTier(server.url, ttl_s=60)
    for name in names:
        maker_tier.put(HostTransfer().to_host(embedding(name)))
    tier = RedisTier(server.url, ttl_s=60)
    store = EmbeddingStore(MemoryTier(10**6), tier, SlowTransfer())
    store.get_or_make(key("unknown"), lambda: embedding("unknown"))
    store.get_or_make(key(names[0]), must_not_be_made)
    store.flush()
    other_leases = [maker_tier.try_lease(key(name)) for name in names]  # nor is anybody else waited for
    asked = (tier.counters.hits, tier.counters.misses)
    for name in names[1:]:
        store.get_or_make(key(name), lambda name=name: embedding(name))
    assert (tier.counters.hits, tier.counters.misses) == asked == (1, 1)
    assert (store.statistics().made, store.statistics().fetched) == (10, 1)
    for lease in other_leases:
        assert lease is not None
        lease.release()


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
