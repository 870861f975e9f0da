"""Requests for one picture beside each other, over a real Redis: what is on its way already is waited for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.redis import RedisTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.errors import ModelBusy
from sam3_backend.model.scheduler import Priority, SharedTerms, Terms
from tests.contract.test_embedding_store import HostTransfer, embedding, key, must_not_be_made, wait_for
from tests.local_redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from sam3_backend.embeddings.codec import HostEmbedding
    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey


class Gate:
    """Counts who comes, and lets nobody through until it is opened."""

    def __init__(self) -> None:
        self.came: list[EmbeddingKey] = []
        self._is_open = threading.Event()

    def pass_through(self, key: EmbeddingKey) -> None:
        self.came.append(key)
        assert self._is_open.wait(10)

    def open(self) -> None:
        self._is_open.set()


class GatedTier(RedisTier):
    """The shared tier, which fetches nothing until its gate is opened."""

    def __init__(self, url: str) -> None:
        super().__init__(url, ttl_s=60, timeout_s=2.0)
        self.gate = Gate()

    def get(self, key: EmbeddingKey) -> HostEmbedding | None:
        self.gate.pass_through(key)
        return super().get(key)


class WatchedMemory(MemoryTier):
    """A memory tier that remembers each request: whoever finds nothing here then fetches, makes or waits."""

    def __init__(self) -> None:
        super().__init__(10**6)
        self.asked: list[EmbeddingKey] = []

    def get(self, key: EmbeddingKey) -> Embedding | None:
        self.asked.append(key)
        return super().get(key)


class Worker:
    """One worker process with requests beside each other.

    Args:
        url: Its Redis.
    """

    def __init__(self, url: str) -> None:
        self._memory, self._tier = WatchedMemory(), GatedTier(url)
        self.store = EmbeddingStore(self._memory, self._tier, HostTransfer())
        self.fetching, self.making = self._tier.gate, Gate()
        self.pool = ThreadPoolExecutor(32)

    def make(self) -> Embedding:
        self.making.pass_through(key())
        return embedding()

    def asks(self, ask: Callable[..., Any], *how: Any) -> Future[Any]:
        """Let a request ask for the picture; returns once it found nothing in memory."""
        asked = len(self._memory.asked)
        future = self.pool.submit(ask, key(), *how)
        wait_for(lambda: len(self._memory.asked) > asked)
        return future

    def finds(self, terms: SharedTerms | None = None) -> Future[Any]:
        return self.asks(self.store.find, terms)

    def gets(self, make: Callable[[], Embedding] | None = None, terms: SharedTerms | None = None) -> Future[Any]:
        return self.asks(self.store.get_or_make, make or self.make, terms)

    @property
    def lookups(self) -> dict[str, int]:
        """How many requests were answered from where; each is counted once."""
        statistics = self.store.statistics()
        counts = {name: getattr(statistics, name) for name in ("hits", "joined", "fetched", "made")}
        return {name: count for name, count in counts.items() if count}

    def end(self) -> None:
        self.fetching.open()
        self.making.open()
        self.pool.shutdown()
        self.store.flush()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def worker(redis: Redis) -> Iterator[Worker]:
    working = Worker(redis.url)
    yield working
    working.end()


@pytest.fixture
def stored(redis: Redis) -> None:
    """Redis holds the picture's embedding."""
    assert RedisTier(redis.url, ttl_s=60).put(HostTransfer().to_host(embedding()))


def late() -> SharedTerms:
    """Of somebody who hardly waits."""
    return SharedTerms(Terms(deadline=time.monotonic() + 0.05))


@pytest.mark.usefixtures("stored")
def test_ten_annotators_who_open_a_picture_that_redis_holds_fetch_it_once(worker: Worker) -> None:
    found = [worker.finds() for _ in range(10)]
    worker.fetching.open()
    assert len({id(each.result(10)) for each in found}) == 1
    assert found[0].result().key == key()
    assert len(worker.fetching.came) == 1
    assert worker.lookups == {"fetched": 1, "joined": 9}


@pytest.mark.usefixtures("stored")
def test_what_is_being_fetched_is_not_encoded_beside_it(worker: Worker) -> None:
    found = worker.finds()
    got = [worker.gets(must_not_be_made) for _ in range(3)]
    worker.fetching.open()
    assert {id(each.result(10)) for each in got} == {id(found.result(10))}
    assert len(worker.fetching.came) == 1
    assert worker.lookups == {"fetched": 1, "joined": 3}


def test_what_was_looked_for_in_vain_is_encoded_once_by_who_can(worker: Worker) -> None:
    found = [worker.finds() for _ in range(3)]
    got = [worker.gets() for _ in range(3)]
    assert worker.making.came == []
    worker.fetching.open()
    assert [each.result(10) for each in found] == [None] * 3
    worker.making.open()
    assert len({id(each.result(10)) for each in got}) == 1
    assert len(worker.making.came) == 1
    assert worker.lookups["made"] == 1
    assert sum(worker.lookups.values()) == len(got)  # those who found nothing have no embedding to count


def test_what_is_being_encoded_is_waited_for_and_not_looked_for(worker: Worker) -> None:
    worker.fetching.open()
    got = worker.gets()
    wait_for(lambda: len(worker.making.came) == 1)
    looked = len(worker.fetching.came)
    found = worker.finds()
    assert not found.done()
    worker.making.open()
    assert found.result(10) is got.result(10)
    assert len(worker.fetching.came) == looked
    assert worker.lookups == {"made": 1, "joined": 1}


def test_who_finds_what_is_being_encoded_makes_it_as_urgent_as_it_is_for_them(worker: Worker) -> None:
    terms = SharedTerms(Terms(Priority.BULK))
    worker.gets(terms=terms)
    worker.finds(SharedTerms(Terms(Priority.INTERACTIVE)))
    assert terms.priority == Priority.INTERACTIVE


@pytest.mark.usefixtures("stored")
def test_nobody_waits_for_what_another_request_fetches_longer_than_their_own_deadline(worker: Worker) -> None:
    patient = worker.finds(SharedTerms(Terms(deadline=time.monotonic() + 60)))
    impatient = [worker.finds(late()), worker.gets(must_not_be_made, late())]
    for each in impatient:
        with pytest.raises(ModelBusy, match="too busy"):
            each.result(10)
    assert not patient.done()
    worker.fetching.open()
    assert patient.result(10).key == key()


def test_nobody_waits_for_what_another_request_encodes_longer_than_their_own_deadline(worker: Worker) -> None:
    worker.fetching.open()
    got = worker.gets()
    wait_for(lambda: len(worker.making.came) == 1)
    with pytest.raises(ModelBusy, match="too busy"):
        worker.finds(late()).result(10)
    worker.making.open()
    assert got.result(10).key == key()


@pytest.mark.usefixtures("stored")
def test_a_fault_reaches_all_who_wait_and_the_next_request_tries_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [worker.finds(), worker.finds(), worker.gets(must_not_be_made)]
    monkeypatch.setattr(RedisTier, "get", lambda *_: 1 / 0)
    worker.fetching.open()
    for each in found:
        with pytest.raises(ZeroDivisionError):
            each.result(10)
    monkeypatch.undo()
    assert worker.finds().result(10).key == key()
    assert worker.lookups == {"fetched": 1}
