"""A predictor that sees colours: exact, and without torch.

It answers as SAM 3's predictor does, for pictures of plain colours on light ground: a text finds every patch of the
colour it names, a point takes the patch it lies on, a box takes what is in it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.errors import InvalidPrompt
from sam3_backend.masks import Mask
from sam3_backend.model.answers import Detection, Detections, Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHANNELS = {"red": 0, "green": 1, "blue": 2}
MOST_WORDS = 32


def one_by_one(segment: Callable[..., Any]) -> SimpleNamespace:
    """A predictor's ``clicks``, for one that answers each question on its own."""
    names = ("points", "box", "mask_logits", "multimask", "mask_threshold")
    return SimpleNamespace(
        question=lambda embedding, *asked: (embedding, dict(zip(names, asked, strict=True))),
        answer=lambda clicks: [segment(embedding, **how) for embedding, how in clicks],
    )


class ColourPredictor:
    """Finds patches of colour; ``calls`` counts what it was asked."""

    name = "colours"
    device = "cpu"
    checkpoint_fingerprint = "c0104125"
    default_threshold = 0.5
    mask_nms_iou = None
    pace = SimpleNamespace(texts_at_once=1, pictures_at_once=1, clicks_at_once=1)

    def __init__(self) -> None:
        self.calls = {"encode": 0, "detect": 0, "segment": 0}

    def key(self, content_hash: str) -> EmbeddingKey:
        return EmbeddingKey(content_hash, self.checkpoint_fingerprint)

    def prepare(self, image: np.ndarray, *, content_hash: str) -> tuple[np.ndarray, str]:
        return image, content_hash

    def encode_each(self, pictures: Sequence[tuple[np.ndarray, str]]) -> list[Embedding]:
        self.calls["encode"] += len(pictures)
        return [Embedding(self.key(known_as), image.shape[:2], _patches(image)) for image, known_as in pictures]

    @property
    def clicks(self) -> SimpleNamespace:
        return one_by_one(self.segment)

    def make_room(self) -> None:
        """There is always room."""

    def detect(self, embedding: Embedding, *, text: str, **_how: Any) -> Detections:
        self.calls["detect"] += 1
        words = text.casefold().split()
        if len(words) > MOST_WORDS:
            raise InvalidPrompt(f"The text is longer than {MOST_WORDS} words.")
        numbers, channels = embedding.tensors["numbers"], embedding.tensors["channels"]
        wanted = [CHANNELS[colour] for colour in CHANNELS.keys() & set(words)]
        found = []
        for number in np.flatnonzero(np.isin(channels, wanted)):
            mask = Mask.from_array(numbers == number + 1)
            found.append(Detection(mask, tuple(map(float, mask.box_xyxy_px)), 0.9))  # type: ignore[arg-type]
        return Detections(tuple(found), presence_score=0.9 if found else 0.1)

    def segment(
        self,
        embedding: Embedding,
        *,
        points: Sequence[tuple[float, float, bool]] | None,
        box: Any,
        mask_logits: Any,
        **_how: Any,
    ) -> Segmentation:
        self.calls["segment"] += 1
        numbers = np.asarray(embedding.tensors["numbers"])
        taken = np.zeros(numbers.shape, dtype=bool)
        if box is not None:
            x1, y1, x2, y2 = (round(edge) for edge in box)
            taken[y1:y2, x1:x2] = numbers[y1:y2, x1:x2] > 0
        for x, y, is_positive in points or ():
            number = numbers[min(int(y), numbers.shape[0] - 1), min(int(x), numbers.shape[1] - 1)]
            if number:
                taken = taken | (numbers == number) if is_positive else taken & (numbers != number)
        return Segmentation((Mask.from_array(taken),), (0.9,), [np.zeros((2, 2), dtype=np.float32)])


def _patches(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """The number of the patch at each pixel, (H, W) uint8, 0 for the ground, and each patch's colour channel."""
    numbers, channels = np.zeros(rgb.shape[:2], dtype=np.uint8), []
    for channel in range(3):
        others = [rgb[..., other].astype(np.int16) for other in range(3) if other != channel]
        is_colour = rgb[..., channel] > np.maximum(*others) + 60
        count, labels, statistics, _ = cv2.connectedComponentsWithStats(is_colour.astype(np.uint8))
        for label in range(1, count):
            if statistics[label, cv2.CC_STAT_AREA] > 20:
                channels.append(channel)
                numbers[labels == label] = len(channels)
    return {"numbers": numbers, "channels": np.array(channels)}
