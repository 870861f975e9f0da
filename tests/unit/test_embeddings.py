"""The memory tier and the store in front of it."""

from __future__ import annotations

import resource
import threading
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from sam3_backend.embeddings import freed_memory
from sam3_backend.embeddings import store as store_module
from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore


def key(name: str) -> EmbeddingKey:
    return EmbeddingKey(content_hash=name, predictor_fingerprint="model")


def embedding(name: str, nbytes: int = 100) -> Embedding:
    return Embedding(key(name), (4, 5), {"vit": np.zeros(nbytes, dtype=np.uint8)})


def test_an_embedding_cannot_be_changed() -> None:
    made = embedding("a")
    with pytest.raises(FrozenInstanceError):
        made.picture_hw = (1, 1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        made.tensors["vit"] = np.zeros(1)  # type: ignore[index]


def test_the_least_recently_used_embedding_makes_room() -> None:
    tier = MemoryTier(max_bytes=300)
    for name in "abc":
        tier.put(embedding(name))
    assert tier.get(key("a")) is not None
    tier.put(embedding("d"))
    assert tier.get(key("b")) is None
    assert all(tier.get(key(name)) is not None for name in "acd")
    assert tier.nbytes == 300


def test_an_embedding_larger_than_the_tier_is_not_kept_and_drops_nothing_else() -> None:
    tier = MemoryTier(max_bytes=300)
    tier.put(embedding("small"))
    tier.put(embedding("large", nbytes=301))
    assert (len(tier), tier.nbytes) == (1, 100)


def test_replacing_an_embedding_counts_its_bytes_once() -> None:
    tier = MemoryTier(max_bytes=300)
    tier.put(embedding("a", 100))
    tier.put(embedding("a", 200))
    assert (len(tier), tier.nbytes) == (1, 200)


def test_everybody_who_asks_at_the_same_time_gets_the_one_embedding_that_is_made() -> None:
    store, makes, release = EmbeddingStore(MemoryTier(1000)), [], threading.Event()
    results: list[Embedding] = []

    def make() -> Embedding:
        makes.append(1)
        assert release.wait(10)
        return embedding("a")

    threads = [threading.Thread(target=lambda: results.append(store.get_or_make(key("a"), make))) for _ in range(10)]
    for thread in threads:
        thread.start()
    while store.statistics().joined < 9:
        pass
    release.set()
    for thread in threads:
        thread.join(10)
    assert len(makes) == 1
    assert len({id(result) for result in results}) == 1
    statistics = store.statistics()
    assert (statistics.made, statistics.joined, statistics.hits) == (1, 9, 0)


def test_a_failed_encode_is_tried_again_by_the_next_request() -> None:
    store = EmbeddingStore(MemoryTier(1000))

    def fail() -> Embedding:
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        store.get_or_make(key("a"), fail)
    assert store.get_or_make(key("a"), lambda: embedding("a")).key == key("a")
    assert store.get_or_make(key("a"), fail).key == key("a")


def test_the_same_picture_under_another_checkpoint_is_another_embedding() -> None:
    store = EmbeddingStore(MemoryTier(1000))
    store.get_or_make(key("a"), lambda: embedding("a"))
    store.get_or_make(EmbeddingKey("a", "another model"), lambda: embedding("a"))
    assert store.statistics().made == 2


def test_freed_memory_goes_back_to_the_system_now_and_then_and_no_request_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, may_end = threading.Semaphore(0), threading.Event()

    def give_back() -> None:
        given.release()
        assert may_end.wait(10)

    store = EmbeddingStore(MemoryTier(1000))
    monkeypatch.setattr(freed_memory, "give_back", give_back)
    monkeypatch.setattr(store_module, "GIVE_BACK_EVERY", 4)
    times = []
    for number in range(10):
        for _ in range(2):
            store.get_or_make(key(str(number)), lambda number=number: embedding(str(number)))
        times.append(given.acquire(timeout=10 if number in {3, 7} else 0))
    may_end.set()
    assert [number for number, is_time in enumerate(times) if is_time] == [3, 7]


def test_memory_that_was_freed_between_what_is_kept_leaves_the_process() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    blocks = [np.ones(64 * 1024, dtype=np.uint8) for _ in range(2048)]  # too small to be mapped one by one
    kept = blocks[::16]
    before = resident_bytes()
    del blocks
    freed_memory.give_back()
    assert before - resident_bytes() > 0.8 * 15 / 16 * 2048 * 64 * 1024
    assert len(kept) == 128
