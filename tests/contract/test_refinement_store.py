"""What a further click goes on from, over both tiers, with a real Redis: shared, exact, and in nobody's way."""

from __future__ import annotations

import json
import time
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_backend.embeddings import breaker as breaker_module
from sam3_backend.embeddings import codec
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.redis import REFINEMENT_TTL_S, RedisTier
from sam3_backend.embeddings.refinement import Refinement, RefinementKey
from sam3_backend.embeddings.refinement_store import RefinementStatistics, RefinementStore
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.prompts import Box, Point, PromptSet
from tests.contract.test_embedding_store import HostTransfer, embedding, key, wait_for
from tests.local_redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sam3_backend.embeddings.refinement import MaskLogits

CLICKED = PromptSet(points=(Point(0.1, 0.2), Point(0.3, 0.4, is_positive=False)), box=Box(0.1, 0.1, 0.9, 0.9))
TIMEOUT_S = 0.2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(tmp_path)
    yield running
    running.stop()


def mask_logits() -> MaskLogits:
    """Full-size logits, among them numbers that are easily lost: -0, the smallest, the largest that occur."""
    logits = np.random.default_rng(7).standard_normal((288, 288)).astype(np.float32)
    logits[0, :4] = (-0.0, np.finfo(np.float32).smallest_subnormal, 32.0, -32.0)
    return logits


def worker(server: Redis) -> RefinementStore:
    """What one worker process holds: its own memory, the shared Redis."""
    return RefinementStore(shared=RedisTier(server.url, ttl_s=60, timeout_s=TIMEOUT_S))


def put(store: RefinementStore, prompt_set: PromptSet = CLICKED) -> None:
    store.put(key(), prompt_set, mask_logits(), None)
    store.flush()


def get(store: RefinementStore, prompt_set: PromptSet = CLICKED) -> MaskLogits:
    """The logits, which are decoded again where no tier has them."""
    return store.get_or_make(key(), prompt_set, None, mask_logits)


def must_not_be_decoded() -> MaskLogits:
    raise AssertionError("decoded again although the logits were to be had")


@pytest.fixture(params=["memory", "Redis"])
def remembering(request: pytest.FixtureRequest, server: Redis) -> tuple[RefinementStore, RefinementStore]:
    """A worker that remembers, and one that asks: itself, or one that has only Redis to ask."""
    first = worker(server)
    return first, first if request.param == "memory" else worker(server)


def test_either_tier_gives_the_same_logits_bit_for_bit(remembering: tuple[RefinementStore, RefinementStore]) -> None:
    first, asking = remembering
    put(first)
    found = asking.get_or_make(key(), CLICKED, None, must_not_be_decoded)
    assert (found.dtype, found.shape) == (np.float32, (288, 288))
    assert found.tobytes() == mask_logits().tobytes()
    assert not found.flags.writeable


def test_neither_tier_answers_another_question(
    remembering: tuple[RefinementStore, RefinementStore],
) -> None:
    first, asking = remembering
    put(first)
    for picture, prompt_set, multimask in (
        (key("another"), CLICKED, None),
        (key(), PromptSet(points=CLICKED.points), None),
        (key(), PromptSet(points=CLICKED.points[::-1], box=CLICKED.box), None),
        (key(), CLICKED, True),
    ):
        asking.get_or_make(picture, prompt_set, multimask, mask_logits)
    assert asking.statistics() == RefinementStatistics(made=4)


def test_what_redis_gave_is_remembered(server: Redis) -> None:
    put(worker(server))
    store = worker(server)
    get(store)
    server.client.flushall()
    get(store)
    assert store.statistics() == RefinementStatistics(hits=1, fetched=1)


def test_logits_expire_sooner_than_embeddings_and_cannot_be_taken_for_them(server: Redis) -> None:
    put(worker(server))
    (name,) = server.client.keys()
    assert 0 < server.client.ttl(name) <= REFINEMENT_TTL_S
    assert b":refinement:" in name
    assert server.client.keys("*embedding*") == []
    assert server.client.memory_usage(name) == pytest.approx(393_000, rel=0.01)  # as docs/operations.md says


def with_header(tensors: object, values: bytes) -> bytes:
    """A value whose checksum and key are right, whatever else it says."""
    head = json.dumps({"key": str(RefinementKey.of(key(), CLICKED, None)), "tensors": tensors}).encode()
    return codec.PREFIX.pack(codec.REFINEMENT_MAGIC, len(head), zlib.crc32(head + values)) + head + values


def of_another_question() -> bytes:
    asked = RefinementKey.of(key(), PromptSet(points=CLICKED.points), None)
    return codec.refinement_to_bytes(Refinement(asked, mask_logits()))


def test_the_header_that_the_next_test_changes_is_a_good_one() -> None:
    value = with_header([["mask_logits", "float32", [1, 1]]], b"1234")
    assert codec.refinement_from_bytes(value, RefinementKey.of(key(), CLICKED, None)).mask_logits.shape == (1, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _value: b"",
        lambda _value: b"somebody else's value, longer than the prefix",
        lambda value: value[:-1],
        lambda value: value[:-1] + bytes([value[-1] ^ 1]),
        lambda value: value.replace(b"SAM3REF1", b"SAM3REF0"),
        lambda _value: of_another_question(),
        lambda _value: codec.to_bytes(HostTransfer().to_host(embedding())),
        lambda _value: with_header("no list", b""),
        lambda _value: with_header([["mask_logits", "float32", [1, 1]]], b"12345678"),
        lambda _value: with_header([["mask_logits", "float16", [1, 1]]], b"12"),
        lambda _value: with_header([["mask_logits", "float32", [1, 1, 1]]], b"1234"),
        lambda _value: with_header([["vit", "float32", [1, 1]]], b"1234"),
        lambda _value: with_header([[name, "float32", [1, 1]] for name in ("mask_logits", "vit")], b"12345678"),
    ],
    ids=[
        *("empty", "foreign", "truncated", "flipped bit", "another version", "another question", "an embedding"),
        *("half a header", "too many values", "another dtype", "three masks", "no logits", "more than logits"),
    ],
)
def test_a_value_that_is_not_what_its_key_promises_is_removed_and_decoded_again(
    server: Redis, damage: Callable[[bytes], bytes]
) -> None:
    put(worker(server))
    (name,) = server.client.keys()
    server.client.set(name, damage(server.client.get(name)))
    store = worker(server)
    get(store)
    assert store.statistics() == RefinementStatistics(made=1)
    assert server.client.exists(name) == 0


def test_without_redis_clicks_go_on_and_one_line_is_logged(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    server.stop()
    store = worker(server)
    for x in (0.1, 0.2, 0.3):
        get(store, PromptSet(points=(Point(x, 0.5),)))
        put(store, PromptSet(points=(Point(x, 0.5),)))
    assert store.statistics() == RefinementStatistics(made=3)
    assert [record.message for record in caplog.records if "going on without it" not in record.message] == []
    assert len(caplog.records) == 1
    server.start()


def test_a_redis_that_does_not_answer_delays_one_click_by_its_time_out_and_no_other(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker_module, "FIRST_PAUSE_S", 0.01)  # over before the next click
    store, waits_s = RefinementStore(shared=RedisTier(server.url, ttl_s=60, timeout_s=0.5)), []
    get(store)  # connected
    with server.frozen():
        for x in (0.1, 0.2, 0.3, 0.4):
            started = time.perf_counter()
            get(store, PromptSet(points=(Point(x, 0.5),)))
            store.put(key(), PromptSet(points=(Point(x, 0.5),)), mask_logits(), None)
            waits_s.append(time.perf_counter() - started)
            time.sleep(0.05)
    assert 0.5 < waits_s[0] < 1.0
    assert max(waits_s[1:]) < 0.25


def test_no_click_waits_for_writes(server: Redis) -> None:
    store = RefinementStore(shared=RedisTier(server.url, ttl_s=60, timeout_s=5.0))
    with server.frozen():
        started = time.perf_counter()
        for number in range(20):
            store.put(key(str(number)), CLICKED, mask_logits(), None)
        assert time.perf_counter() - started < 2.5
    store.flush()
    assert server.client.keys("*refinement*") != []


def test_a_redis_that_is_slower_than_decoding_is_not_asked(server: Redis) -> None:
    store = RefinementStore(shared=RedisTier(server.url, ttl_s=60, timeout_s=5.0))
    other = worker(server)
    sets = [PromptSet(points=(Point(x / 10, 0.5),)) for x in range(5)]
    for each in sets:
        put(other, each)
    server.client.client_pause(400)
    for each in sets:
        get(store, each)
    assert store.statistics() == RefinementStatistics(fetched=1, made=4)


def test_a_full_redis_is_still_read(server: Redis) -> None:
    put(worker(server))
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", "1")
    store = worker(server)
    put(store, PromptSet(points=(Point(0.5, 0.5),)))
    get(store)
    assert store.statistics() == RefinementStatistics(fetched=1)
    assert len(server.client.keys()) == 1


def test_a_redis_that_is_back_is_found_by_the_writes_behind_the_clicks(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker_module, "FIRST_PAUSE_S", 0.01)
    store = worker(server)
    server.stop()
    put(store)
    server.start()

    def is_written() -> bool:
        put(store)
        return server.client.keys("*refinement*") != []

    wait_for(is_written)
    other = worker(server)
    other.get_or_make(key(), CLICKED, None, must_not_be_decoded)


def test_after_a_fault_neither_embeddings_nor_logits_are_asked_for(server: Redis) -> None:
    tier = RedisTier(server.url, ttl_s=60, timeout_s=TIMEOUT_S)
    refinements = RefinementStore(shared=tier)
    embeddings = EmbeddingStore(MemoryTier(10**6), tier, HostTransfer())
    server.stop()
    get(refinements)
    embeddings.get_or_make(key(), embedding)
    embeddings.flush()
    assert embeddings.statistics().faults == 1  # nobody asked once more
    server.start()
