"""However many pictures are asked about, the process grows no further than its settings allow."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np

from sam3_backend import Predictor
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import Picture
from sam3_backend.model.scheduler import Scheduler
from sam3_backend.prompts import Point, PromptSet
from sam3_backend.segmenter import Segmenter

KEPT = 5
MOST_GROWTH_BYTES = 24 * 1024**2


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def ask_about(segmenter: Segmenter, numbers: range) -> None:
    prompts = [PromptSet(points=(Point(0.5, 0.5),)), PromptSet(text="red circle")]
    for number in numbers:
        rgb = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        segmenter.answer_picture(Picture(rgb, f"picture {number}"), prompts)


def test_memory_stays_flat_over_many_distinct_pictures() -> None:
    predictor = Predictor.load("demo")
    one_bytes = predictor.encode(np.zeros((8, 8, 3), np.uint8)).nbytes
    store = EmbeddingStore(MemoryTier(KEPT * one_bytes))
    segmenter = Segmenter(predictor, Scheduler(), store, None)  # type: ignore[arg-type]  # pictures are handed over
    ask_about(segmenter, range(30))
    before = resident_bytes()
    ask_about(segmenter, range(30, 330))
    statistics = store.statistics()
    assert (statistics.made, statistics.kept) == (330, KEPT)
    assert statistics.kept_bytes <= KEPT * one_bytes
    # Three hundred embeddings more, kept by mistake, would be far above this.
    assert 300 * one_bytes > 10 * MOST_GROWTH_BYTES
    growth_bytes = resident_bytes() - before
    assert growth_bytes < MOST_GROWTH_BYTES
