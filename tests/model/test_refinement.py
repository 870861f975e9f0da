"""One object, refined on several workers: the same mask, bit for bit, and nothing decoded that somebody has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam3_backend.answer import AnswerOptions
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.redis import RedisTier
from sam3_backend.embeddings.refinement_store import RefinementStatistics, RefinementStore
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import Picture
from sam3_backend.model.scheduler import Scheduler
from sam3_backend.model.transfer import DeviceTransfer
from sam3_backend.prompts import Point, PromptSet
from sam3_backend.segmenter import Segmenter
from tests.local_redis import Redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sam3_backend import Predictor

POINTS = (Point(0.4, 0.45), Point(0.55, 0.6), Point(0.7, 0.2, is_positive=False), Point(0.35, 0.5))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    running = Redis(tmp_path)
    yield running
    running.stop()


def picture() -> Picture:

    drawn = Image.new("RGB", (320, 240), (230, 230, 225))
    ImageDraw.Draw(drawn).ellipse((80, 60, 220, 200), fill=(220, 40, 40))
    ImageDraw.Draw(drawn).ellipse((190, 20, 260, 90), fill=(40, 70, 220))
    return Picture(np.array(drawn), "drawn")


class Watched:
    """A predictor that counts what it decodes and keeps the last logits."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.decodes = 0
        self.logits = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def segment(self, *asked: Any, **how: Any) -> Any:
        self.decodes += 1
        answer = self._predictor.segment(*asked, **how)
        self.logits = answer.mask_logits.tobytes()
        return answer


class Worker:
    """What one worker process holds: its own memory, and the shared Redis if there is one."""

    def __init__(self, predictor: Predictor, redis: Redis | None = None) -> None:
        tier = RedisTier(redis.url, ttl_s=60) if redis else None
        self.predictor: Any = Watched(predictor)
        self.store = EmbeddingStore(MemoryTier(10**9), tier, DeviceTransfer(predictor.device))
        self.refinements = RefinementStore(shared=tier)
        no_pictures: Any = None  # they are at hand
        self._segmenter = Segmenter(self.predictor, Scheduler(), self.store, no_pictures, refinements=self.refinements)

    def clicks(self, points: tuple[Point, ...], *, refine: bool = True) -> np.ndarray:
        """The mask of a click, and everything shared that it left."""
        options = AnswerOptions(refine=refine)
        answer = self._segmenter.answer_picture(picture(), [PromptSet(points=points)], options=options)
        self.store.flush()
        self.refinements.flush()
        return answer.found[0].mask.to_array()


def test_a_click_on_another_worker_goes_on_from_the_stored_logits_to_the_same_mask(
    demo: Predictor, server: Redis
) -> None:
    first, second, alone = Worker(demo, server), Worker(demo, server), Worker(demo)
    for count in range(1, len(POINTS) + 1):
        mask = first.clicks(POINTS[:count])
    others = second.clicks(POINTS)
    replayed = alone.clicks(POINTS)
    assert (first.predictor.decodes, second.predictor.decodes, alone.predictor.decodes) == (4, 1, 4)
    assert second.store.statistics().fetched == 1
    assert first.refinements.statistics() == RefinementStatistics(hits=3)
    assert second.refinements.statistics() == RefinementStatistics(fetched=1)
    assert alone.refinements.statistics() == RefinementStatistics(made=3)
    assert first.predictor.logits == second.predictor.logits == alone.predictor.logits
    assert mask.tobytes() == others.tobytes() == replayed.tobytes()
    alone.clicks(POINTS, refine=False)
    assert alone.predictor.logits != first.predictor.logits  # else nothing was refined


def test_what_nobody_has_is_decoded_from_the_last_point_that_somebody_has(demo: Predictor, server: Redis) -> None:
    first, second = Worker(demo, server), Worker(demo, server)
    first.clicks(POINTS[:2])
    second.clicks(POINTS)
    assert (first.predictor.decodes, second.predictor.decodes) == (2, 2)
    assert second.refinements.statistics() == RefinementStatistics(fetched=1, made=1)


def test_workers_that_take_turns_never_decode_a_click_twice(demo: Predictor, server: Redis) -> None:
    workers = Worker(demo, server), Worker(demo, server)
    for count in range(1, len(POINTS) + 1):
        workers[count % 2].clicks(POINTS[:count])
    assert [worker.predictor.decodes for worker in workers] == [2, 2]
