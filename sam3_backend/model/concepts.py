"""Answering concept prompts: text and exemplars in, every instance out.

Work that several prompts share is done once: a text's tokens for all pictures, the detector's view of a picture for
all prompts. Masks are drawn for instances above the threshold alone; where there are none, no mask head runs. Several
prompts on one picture go through the network together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from sam3_backend.errors import InvalidPrompt
from sam3_backend.model.answers import Detection, Detections
from sam3_backend.model.postprocessing import to_mask
from sam3_backend.model.prompt_inputs import labelled_boxes, to_cxcywh
from sam3_backend.model.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
    from sam3_backend.model.network import Candidates, PictureFeatures, Sam3Network
    from sam3_backend.model.pace import Pace
    from sam3_backend.model.tokens import TextTokens

TEXT_WITHOUT_WORDS = "visual"
"""What the official code says to the text tower when exemplars come without a text."""

_PICTURES_IN_USE = 4
_TEXTS_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class ConceptPrompt:
    """One question to the detector, checked.

    Attributes:
        text: A noun phrase; empty where the exemplars speak alone.
        boxes_xyxy: (n, 4) float32 fractions of the picture; None without exemplars.
        labels: (n,) int64, 1 "like this", 0 "not like this".
    """

    text: str = ""
    boxes_xyxy: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.int64] | None = None

    @classmethod
    def checked(cls, text: str | None, exemplars: npt.ArrayLike | None, picture_hw: tuple[int, int]) -> ConceptPrompt:
        """What ``Predictor.detect`` was given, in one shape.

        Raises:
            InvalidPrompt: Neither text nor exemplars, or a box that is out of range.
        """
        phrase = (text or "").strip()
        if exemplars is not None:
            return cls(phrase, *labelled_boxes(exemplars, picture_hw))
        if not phrase:
            raise InvalidPrompt("A text or an exemplar is needed.")
        return cls(phrase)


class Concepts:
    """The detector of one predictor.

    Args:
        network: Loaded.
        tokens: Its tokenizer.
        device: Where it computes.
        pace: Says how many prompts go through the network together.
        max_iou: Of two instances of one prompt that overlap by more the worse is dropped; None: keep both, as the
            official model does.
    """

    def __init__(
        self,
        network: Sam3Network,
        tokens: TextTokens,
        device: torch.device,
        pace: Pace,
        *,
        max_iou: float | None = None,
    ) -> None:
        self._network = network
        self._tokens = tokens
        self._device = device
        self._max_iou = max_iou
        self._pace = pace
        self._texts: Recent[str, torch.Tensor] = Recent(_TEXTS_REMEMBERED)
        self._pictures: Recent[EmbeddingKey, PictureFeatures] = Recent(_PICTURES_IN_USE)

    def detect(
        self, embedding: Embedding, prompts: Sequence[ConceptPrompt], *, threshold: float, cut: float
    ) -> list[Detections]:
        """Answer prompts about one picture.

        Args:
            embedding: Of the picture.
            prompts: Questions.
            threshold: Only instances with a higher detection score, [0, 1].
            cut: Pixels with a higher logit belong to an instance.

        Returns:
            One answer a prompt, in order.
        """
        features = self.picture_features(embedding)
        answers: list[Detections] = []
        at_once = self._pace.texts_at_once
        for start in range(0, len(prompts), at_once):
            tokens = [self._prompt_tokens(features, prompt) for prompt in prompts[start : start + at_once]]
            candidates = self._network.detect(features, *_padded(tokens))
            answers += [
                self._choose(embedding.picture_hw, features, candidates, index, threshold, cut)
                for index in range(len(tokens))
            ]
        return answers

    def picture_features(self, embedding: Embedding) -> PictureFeatures:
        """The detector's view of a picture; remembered for the pictures used last."""
        hidden = cast("torch.Tensor", embedding.tensors["hidden"])
        return self._pictures.get(embedding.key, lambda: self._network.picture_features(hidden))

    def text_features(self, text: str) -> torch.Tensor:
        """(1, n, C) of a text, without padding; remembered.

        Raises:
            InvalidPrompt: The text is longer than the network reads.
        """
        return self._texts.get(text, lambda: self._network.text_features(self._tokens.ids(text)))

    def forget(self) -> None:
        """Drop everything that can be computed again."""
        self._pictures.clear()
        self._texts.clear()

    def _prompt_tokens(self, features: PictureFeatures, prompt: ConceptPrompt) -> torch.Tensor:
        """(1, n, C): text first, exemplars behind it, the CLS token last."""
        geometry = features.cls_token
        if prompt.boxes_xyxy is not None and prompt.labels is not None:
            boxes = torch.from_numpy(to_cxcywh(prompt.boxes_xyxy)).to(self._device)
            labels = torch.from_numpy(prompt.labels).to(self._device)
            geometry = self._network.exemplar_tokens(features, boxes[None], labels[None])
        words = self.text_features(prompt.text or TEXT_WITHOUT_WORDS)
        return torch.cat([words, geometry.to(words.dtype)], dim=1)

    def _choose(
        self,
        picture_hw: tuple[int, int],
        features: PictureFeatures,
        candidates: Candidates,
        prompt: int,
        threshold: float,
        cut: float,
    ) -> Detections:
        presence = candidates.presence_logits[prompt].sigmoid()
        scores = candidates.logits[prompt].sigmoid() * presence
        chosen = torch.nonzero(scores > threshold)[:, 0]
        chosen = chosen[scores[chosen].argsort(descending=True, stable=True)]
        if not len(chosen):
            return Detections(found=(), presence_score=float(presence))
        logits = self._network.mask_logits(features, candidates, prompt, chosen).cpu().numpy()
        boxes = candidates.boxes_xyxy[prompt, chosen].clamp(0, 1).cpu().numpy()
        height, width = picture_hw
        boxes = (boxes * np.array([width, height, width, height])).tolist()
        kept = _distinct(logits > cut, self._max_iou)
        found = tuple(
            Detection(partial(to_mask, mask - cut, picture_hw), (box[0], box[1], box[2], box[3]), score)
            for index, (mask, box, score) in enumerate(zip(logits, boxes, scores[chosen].tolist(), strict=True))
            if index in kept
        )
        return Detections(found=found, presence_score=float(presence))


def _padded(prompts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Prompts of different lengths as one batch.

    Returns:
        (B, n, C), and (B, n) bool, False at padding; None where nothing is padded.
    """
    lengths = [prompt.shape[1] for prompt in prompts]
    longest = max(lengths)
    batch = torch.cat([torch.nn.functional.pad(prompt, (0, 0, 0, longest - prompt.shape[1])) for prompt in prompts])
    if min(lengths) == longest:
        return batch, None
    steps = torch.arange(longest, device=batch.device)
    return batch, steps[None] < torch.tensor(lengths, device=batch.device)[:, None]


def _distinct(masks: npt.NDArray[np.bool_], max_iou: float | None) -> list[int]:
    """Which of some masks are not empty and not another, better one over again.

    Args:
        masks: (n, s, s) bool, best first.
        max_iou: Masks that overlap a better one by more are left out; None: none is.
    """
    flat = masks.reshape(len(masks), -1)
    areas = flat.sum(axis=1)
    kept: list[int] = []
    for index in np.flatnonzero(areas).tolist():
        if kept and max_iou is not None:
            shared = (flat[kept] & flat[index]).sum(axis=1)
            if (shared > max_iou * (areas[kept] + areas[index] - shared)).any():
                continue
        kept.append(index)
    return kept
