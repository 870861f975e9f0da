"""However many pictures are asked about, the process grows no further than its settings allow."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam3_backend import Predictor
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.refinement_store import RefinementStore
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import Picture
from sam3_backend.model.scheduler import Scheduler
from sam3_backend.prompts import Point, PromptSet
from sam3_backend.segmenter import Segmenter
from training.export import export
from training.network import Network
from training.sizes import Sizes
from training.words import build_tokenizer

SMALL = Sizes(grid=8, window=4, vit_width=32, vit_layers=2, global_layers=(1,), width=16, encoder_layers=1, queries=9)
"""A network that takes ten milliseconds a picture: what is kept does not depend on what it has learned."""
KEPT = 5
KEPT_LOGITS_BYTES = 512 * 1024
PICTURES = 2000
MOST_GROWTH_BYTES = 10 * 1024**2


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    checkpoint = tmp_path_factory.mktemp("small")
    vocabulary = len(build_tokenizer(checkpoint))
    torch.manual_seed(0)
    export(Network(replace(SMALL, vocabulary=vocabulary)), checkpoint)
    return Predictor.load(str(checkpoint), device="cpu", dtype="float32")


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def ask_about(asked: Segmenter, numbers: range) -> None:
    prompts = [PromptSet(points=(Point(0.5, 0.5),)), PromptSet(text="red circle")]
    for number in numbers:
        rgb = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        asked.answer_picture(Picture(rgb, f"picture {number}"), prompts)


def test_memory_stays_flat_over_2000_distinct_pictures(predictor: Predictor) -> None:
    one_bytes = predictor.encode(np.zeros((8, 8, 3), np.uint8)).nbytes
    store = EmbeddingStore(MemoryTier(KEPT * one_bytes))
    refinements = RefinementStore(MemoryTier(KEPT_LOGITS_BYTES))
    no_pictures: Any = None  # they are at hand
    asked = Segmenter(predictor, Scheduler(), store, no_pictures, refinements=refinements)
    ask_about(asked, range(200))
    before = resident_bytes()
    ask_about(asked, range(200, 200 + PICTURES))
    statistics = store.statistics()
    assert (statistics.made, statistics.kept) == (200 + PICTURES, KEPT)
    assert statistics.kept_bytes <= KEPT * one_bytes
    # Their embeddings, kept by mistake, would be far above this; and so their mask logits with what belongs to them.
    assert PICTURES * one_bytes > 4 * MOST_GROWTH_BYTES
    assert resident_bytes() - before < MOST_GROWTH_BYTES
