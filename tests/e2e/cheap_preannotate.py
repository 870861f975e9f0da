"""``sam3-backend preannotate`` with a predictor that sees colours, so that it starts in a second and not in eight.

Everything else is what people run: command line, Label Studio's API, pictures, journal. For tests that start it often.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from sam3_backend import cli
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.label_studio.predictions import Predictions
from sam3_backend.model.scheduler import Scheduler
from sam3_backend.segmenter import Segmenter
from tests.contract.colour_predictor import ColourPredictor

if TYPE_CHECKING:
    from sam3_backend.label_studio.predictions import Locates
    from sam3_backend.segmenter import PictureSource
    from sam3_backend.settings import Settings


def compose(settings: Settings, pictures: PictureSource, *, is_awaited: bool) -> Segmenter:
    return Segmenter(ColourPredictor(), Scheduler(), EmbeddingStore(MemoryTier(10**7)), pictures)  # type: ignore[arg-type]


def label_predictions(segmenter: Segmenter, access: Locates) -> Predictions:
    facts = ColourPredictor()
    return Predictions(segmenter, access, facts, lambda _code: None, lambda _stage, _seconds: None)


if __name__ == "__main__":
    composition = ModuleType("sam3_backend.composition")  # the real one loads torch
    composition.__dict__.update(compose=compose, label_predictions=label_predictions, DEMO_NOTICE="")
    sys.modules[composition.__name__] = composition
    sys.exit(cli.main())
