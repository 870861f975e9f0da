"""The predictor gives the numbers of Meta's own code.

``reference/expected.npz`` holds what ``facebookresearch/sam3`` (fp32, CPU) answered for the checkpoint that
``reference_checkpoint`` writes. Low-resolution logits are stored with stride 3.

The bounds are some times what rounding costs here (1.4e-6 on logits, 6e-7 on boxes, 2.1e-5 on mask logits, two pixels
of a mask), and below what the smallest difference in wiring costs: layer norms with another epsilon move logits by
1.5e-5, mask logits by 3.5e-4, and one mask by 206 pixels. Every mask is held to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference_checkpoint import REFERENCE

from sam3_backend import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    from sam3_backend.embeddings.embedding import Embedding
    from sam3_backend.model.answers import Detections, Segmentation
    from sam3_backend.model.network import Candidates, PictureFeatures

LOGITS = 1e-5
BOXES = 5e-6
MASK_LOGITS = 1e-4
PIXELS = 1e-4  # share of a picture's pixels

WIDTH, HEIGHT = 720, 480
TEXT = "yellow school bus"
POSITIVE = (0.25 * WIDTH, 0.425 * HEIGHT, 0.55 * WIDTH, 0.675 * HEIGHT)
NEGATIVE = (0.65 * WIDTH, 0.2 * HEIGHT, 0.85 * WIDTH, 0.4 * HEIGHT)
CLICK = (0.4 * WIDTH, 0.5 * HEIGHT)
CLICKS = ((*CLICK, 1), (0.7 * WIDTH, 0.2 * HEIGHT, 0))

CONCEPTS: dict[str, tuple[str | None, list[tuple[float, ...]] | None]] = {
    "text": (TEXT, None),
    "text_box": (TEXT, [(*POSITIVE, 1)]),
    "text_box_negative": (TEXT, [(*POSITIVE, 1), (*NEGATIVE, 0)]),
    "exemplar": (None, [(*POSITIVE, 1)]),
}
OBJECTS: dict[str, dict[str, Any]] = {
    "point_multimask": {"points": [CLICK]},
    "point": {"points": [CLICK], "multimask": False},
    "points_negative": {"points": CLICKS},
    "box": {"box": POSITIVE},
    "box_points": {"box": POSITIVE, "points": CLICKS},
}


@dataclass(frozen=True)
class Reference:
    """A predictor with known answers, and the picture they are about."""

    predictor: Predictor
    embedding: Embedding
    features: PictureFeatures
    expected: dict[str, np.ndarray]

    def masks(self, prefix: str) -> np.ndarray:
        """(n, H, W) bool."""
        kind = "masks_bits" if f"{prefix}_masks_bits" in self.expected else "top_masks_bits"
        return np.unpackbits(self.expected[f"{prefix}_{kind}"], axis=-1)[..., :WIDTH].astype(bool)

    def official_scores(self, prefix: str) -> np.ndarray:
        """(200,) detection scores."""
        return _sigmoid(self.expected[f"{prefix}_logits"]) * _sigmoid(self.expected[f"{prefix}_presence_logit"])


@pytest.fixture(scope="module")
def reference(reference_checkpoint: Path) -> Reference:
    predictor = Predictor.load(str(reference_checkpoint), device="cpu", dtype="float32")
    embedding = predictor.encode(Image.open(REFERENCE / "picture.png"))
    with torch.inference_mode():
        features = predictor.concepts.picture_features(embedding)
    with np.load(REFERENCE / "expected.npz") as expected:
        return Reference(predictor, embedding, features, dict(expected))


@dataclass(frozen=True)
class Concept:
    """One concept prompt: what the public API answered, and all queries behind that answer."""

    prefix: str
    threshold: float
    answer: Detections
    candidates: Candidates


@pytest.fixture(scope="module", params=CONCEPTS)
def concept(request: pytest.FixtureRequest, reference: Reference) -> Concept:
    text, exemplars = CONCEPTS[request.param]
    predictor, seen = reference.predictor, []
    detect = predictor._network.detect

    def watched(*arguments: Any) -> Candidates:
        seen.append(detect(*arguments))
        return seen[-1]

    third, fourth = np.sort(reference.official_scores(request.param))[[-3, -4]]
    threshold = float(third + fourth) / 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor._network, "detect", watched)
        answer = predictor.detect(reference.embedding, text=text, exemplars=exemplars, threshold=threshold)
    return Concept(request.param, threshold, answer, seen[0])


def test_all_queries_score_as_in_the_official_code(concept: Concept, reference: Reference) -> None:
    expected, candidates = reference.expected, concept.candidates
    assert _distance(candidates.logits[0], expected[f"{concept.prefix}_logits"]) <= LOGITS
    assert _distance(candidates.presence_logits, expected[f"{concept.prefix}_presence_logit"]) <= LOGITS


def test_all_queries_find_the_boxes_of_the_official_code(concept: Concept, reference: Reference) -> None:
    boxes = concept.candidates.boxes_xyxy[0]
    assert _distance(boxes, reference.expected[f"{concept.prefix}_boxes_xyxy"]) <= BOXES


def test_queries_draw_the_mask_logits_of_the_official_code(concept: Concept, reference: Reference) -> None:
    chosen = torch.from_numpy(reference.expected[f"{concept.prefix}_top_queries"])
    with torch.inference_mode():
        logits = reference.predictor._network.mask_logits(reference.features, concept.candidates, 0, chosen)
    assert _distance(logits[:, ::3, ::3], reference.expected[f"{concept.prefix}_top_mask_logits"]) <= MASK_LOGITS


def test_detect_answers_with_the_official_scores_boxes_and_masks(concept: Concept, reference: Reference) -> None:
    official = reference.official_scores(concept.prefix)
    best = _best_first(official)[:3]
    assert len(concept.answer.found) == 3
    boxes = reference.expected[f"{concept.prefix}_boxes_xyxy"].clip(0, 1) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    for found, query, mask in zip(concept.answer.found, best, reference.masks(concept.prefix), strict=True):
        assert found.detection_score == pytest.approx(official[query], abs=LOGITS)
        assert _distance(found.box_xyxy_px, boxes[query]) <= BOXES * WIDTH
        assert np.mean(found.mask.to_array() != mask) <= PIXELS


@pytest.mark.parametrize("prefix", OBJECTS)
def test_segment_answers_with_the_official_logits_and_masks(prefix: str, reference: Reference) -> None:
    answer = reference.predictor.segment(reference.embedding, **OBJECTS[prefix])
    _assert_official(answer, prefix, reference)


def test_refining_a_mask_gives_the_official_logits_and_mask(reference: Reference) -> None:
    three = reference.predictor.segment(reference.embedding, points=[CLICK])
    first_official = _best_first(reference.expected["point_multimask_iou_scores"]).index(0)
    answer = reference.predictor.segment(
        reference.embedding, points=CLICKS, mask_logits=three.mask_logits[first_official]
    )
    _assert_official(answer, "points_mask", reference)


def _assert_official(answer: Segmentation, prefix: str, reference: Reference) -> None:
    order = _best_first(reference.expected[f"{prefix}_iou_scores"])
    assert _distance(answer.iou_scores, reference.expected[f"{prefix}_iou_scores"][order]) <= LOGITS
    assert _distance(answer.mask_logits[:, ::3, ::3], reference.expected[f"{prefix}_low_res_logits"][order]) <= (
        MASK_LOGITS
    )
    for mask, official in zip(answer.masks, reference.masks(prefix)[order], strict=True):
        assert np.mean(mask.to_array() != official) <= PIXELS


def _best_first(scores: np.ndarray) -> list[int]:
    return [int(index) for index in np.argsort(-scores, kind="stable")]


def _distance(ours: Any, official: np.ndarray) -> float:
    return float(np.abs(np.asarray(ours, np.float64) - official).max())


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
