"""How a process of its own comes to predict tasks: what travels to other machines, and what is built of it there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sam3_backend.bulk.coco import coco_prediction
from sam3_backend.bulk.files import FileTasks
from sam3_backend.bulk.work import predicting
from sam3_backend.composition import compose, label_predictions
from sam3_backend.images import KnownPictures, PictureLoader
from sam3_backend.images.local_files import LocalFiles
from sam3_backend.label_studio.client import LabelStudioAccess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sam3_backend.bulk.shards import Shards
    from sam3_backend.bulk.work import Done, Task
    from sam3_backend.label_studio.label_config import LabelConfig
    from sam3_backend.label_studio.predictions import Locates, Predictions
    from sam3_backend.segmenter import PictureSource
    from sam3_backend.settings import Settings


@dataclass(frozen=True, slots=True)
class Recipe:
    """What predictions are made of.

    Attributes:
        settings: Checkpoint, device, limits, Label Studio's address and key.
        config: What is looked for.
        files: The input, where it is not Label Studio.
        is_coco: Whether predictions are COCO's.
        shards: Where processes keep the predictions they make; None where they hand them over.
    """

    settings: Settings
    config: LabelConfig
    files: Path | None = None
    is_coco: bool = False
    shards: Shards | None = None

    def access(self) -> Locates:
        """What finds the pictures."""
        label_studio = LabelStudioAccess.from_settings(self.settings)
        if self.files is None:
            return label_studio
        return FileTasks(self.files, self.config.data_key, "", label_studio)

    def pictures(self) -> PictureSource:
        """What fetches them."""
        known = KnownPictures(PictureLoader.from_settings(self.settings))
        if self.files is None:
            return known
        limits = {"max_bytes": self.settings.image_max_bytes, "max_pixels": self.settings.image_max_pixels}
        return LocalFiles(known, **limits)

    def predictions(self, pictures: PictureSource, access: Locates) -> Predictions:
        """The model, loaded; raises as ``composition.compose``."""
        return label_predictions(compose(self.settings, pictures=pictures, is_awaited=False), access)

    def predict(self, predictions: Predictions) -> Callable[[Task], Done]:
        """What predicts one task."""
        version = predictions.model_version(self.config)
        rewrite = partial(coco_prediction, model_version=version) if self.is_coco else None
        return predicting(predictions, self.config, rewrite)
