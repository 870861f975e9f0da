"""Where the parts are put together: the one place that knows them all.

The server, the command line and the ``label-studio-ml`` class all get their parts here, so that a setting means the
same everywhere. Nothing is computed here, and nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.redis import RedisTier
from sam3_backend.embeddings.refinement_store import RefinementStore
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import KnownPictures, PictureLoader
from sam3_backend.label_studio.backend import LabelStudioBackend
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.label_studio.predictions import Locates, Predictions
from sam3_backend.model.predictor import Predictor
from sam3_backend.model.scheduler import Scheduler, Terms
from sam3_backend.model.transfer import DeviceTransfer
from sam3_backend.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.segmenter import PictureSource
    from sam3_backend.settings import Settings

DEMO_NOTICE = (
    "This is the DEMO checkpoint: a tiny SAM 3 that only knows drawn shapes. It shows that everything works, and is no "
    "use on photographs. Set MODEL_CHECKPOINT to facebook/sam3, a directory or a sam3.pt for the real one."
)


@dataclass(frozen=True)
class Parts:
    """What answers prompts, put together.

    Attributes:
        predictor: The loaded model.
        scheduler: Whose turn it is on the model's device.
        store: Where embeddings are found.
        refinements: Where the mask logits before a further click are found.
        segmenter: The use case over all of them.
    """

    predictor: Predictor
    scheduler: Scheduler
    store: EmbeddingStore
    refinements: RefinementStore
    segmenter: Segmenter

    @property
    def demo_notice(self) -> str | None:
        """What everybody must be told of the demo checkpoint; None on a real one."""
        return DEMO_NOTICE if self.predictor.name == "demo" else None


def compose(
    settings: Settings,
    observe: Callable[[str, float], None] = lambda _stage, _seconds: None,
    pictures: PictureSource | None = None,
    *,
    is_awaited: bool = True,
) -> Parts:
    """Load the model and put everything around it that answers prompts.

    Args:
        settings: Checkpoint, device, limits.
        observe: Told each stage's name and its seconds, for metrics.
        pictures: Where pictures come from; None to download them all.
        is_awaited: Whether somebody waits for single answers, and may click; else only the number of answers counts,
            and prompts are texts.

    Raises:
        CheckpointError: The checkpoint cannot be found or used.
        SettingsError: There is no such device or precision, or Redis' address cannot be used.
    """
    tier = _tier(settings)  # first, because loading a model takes long
    cv2.setNumThreads(1)  # the masks it is given are small: its threads would only take processors from the model
    token = settings.hf_token
    predictor = Predictor.load(
        settings.model_checkpoint,
        device=settings.device,
        dtype=settings.dtype,
        hf_token=token.get_secret_value() if token else None,
        offline=settings.hf_hub_offline,
        clicks=is_awaited or tier is not None,  # else nobody will ever click on what this process sees
    )
    scheduler = Scheduler(at_once=1 if is_awaited else predictor.pace.spread())
    if not is_awaited:
        scheduler.run(predictor.find_pace, Terms())
    store = EmbeddingStore(MemoryTier(settings.embedding_memory_bytes), tier, DeviceTransfer(predictor.device))
    refinements = RefinementStore(shared=tier)
    pictures = pictures or KnownPictures(PictureLoader.from_settings(settings))
    segmenter = Segmenter(predictor, scheduler, store, pictures, observe, refinements)
    return Parts(predictor, scheduler, store, refinements, segmenter)


def connect(
    settings: Settings,
    parts: Parts,
    count_failure: Callable[[str], None] = lambda _code: None,
    observe: Callable[[str, float], None] = lambda _stage, _seconds: None,
) -> LabelStudioBackend:
    """Let the parts answer Label Studio.

    Args:
        settings: Where Label Studio is, how long a batch may take, how far to look ahead.
        parts: What answers prompts.
        count_failure: Told the code of each task that fails, for metrics.
        observe: Told each stage's name and its seconds, for metrics.
    """
    return LabelStudioBackend(
        parts.segmenter,
        LabelStudioAccess.from_settings(settings),
        parts.predictor,
        count_failure,
        observe,
        deadline_s=settings.predict_deadline_s,
        warm_ahead=settings.warm_ahead,
    )


def label_predictions(parts: Parts, access: Locates) -> Predictions:
    """What predicts tasks by their labels, for who has no server: bulk runs."""
    return Predictions(parts.segmenter, access, parts.predictor, lambda _code: None, lambda _stage, _seconds: None)


def build_backend(settings: Settings) -> LabelStudioBackend:
    """What answers Label Studio, with its model loaded; raises as ``compose``."""
    return connect(settings, compose(settings))


def _tier(settings: Settings) -> RedisTier | None:
    if settings.redis_url is None:
        return None
    return RedisTier(settings.redis_url.get_secret_value(), settings.embedding_ttl_s, settings.redis_timeout_s)
