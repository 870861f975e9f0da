"""Half precision costs little, and where it would cost, float32 is kept."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sam3_backend import Predictor
from sam3_backend.model.device import resolve_dtype


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(600, 800, 3) uint8 with three shapes."""
    drawn = np.full((600, 800, 3), (200, 210, 190), np.uint8)
    cv2.circle(drawn, (200, 200), 90, (220, 30, 30), -1)
    cv2.rectangle(drawn, (450, 100), (650, 300), (30, 60, 220), -1)
    cv2.fillPoly(drawn, [np.array([[300, 560], [420, 360], [540, 560]])], (30, 160, 50))
    return drawn


@pytest.fixture(scope="module", params=["bfloat16", "float16"])
def half(request: pytest.FixtureRequest) -> Predictor:
    return Predictor.load("demo", device="cpu", dtype=request.param)


def test_clicks_lose_little(demo: Predictor, half: Predictor, picture: np.ndarray) -> None:
    exact, rough = demo.encode(picture), half.encode(picture)
    for xy in ((200, 200), (550, 200), (420, 500)):
        ours, theirs = (p.segment(e, points=[xy], multimask=False) for p, e in ((half, rough), (demo, exact)))
        assert ours.masks[0].iou(theirs.masks[0]) > 0.98
        assert ours.iou_scores[0] == pytest.approx(theirs.iou_scores[0], abs=0.03)
    box = (110, 110, 291, 291)
    assert half.segment(rough, box=box).masks[0].iou(demo.segment(exact, box=box).masks[0]) > 0.98


def test_texts_lose_little(demo: Predictor, half: Predictor, picture: np.ndarray) -> None:
    exact, rough = demo.encode(picture), half.encode(picture)
    for text in ("red circle", "green triangle", "shape"):
        ours = half.detect(rough, text=text, threshold=0.4)
        theirs = demo.detect(exact, text=text, threshold=0.45)
        assert ours.presence_score == pytest.approx(theirs.presence_score, abs=0.03)
        for found in theirs.found:
            assert max(found.mask.iou(each.mask) for each in ours.found) > 0.95


def test_an_embedding_takes_half_the_memory(demo: Predictor, half: Predictor, picture: np.ndarray) -> None:
    assert 2 * half.encode(picture).nbytes == demo.encode(picture).nbytes


def test_boxes_scores_and_clicks_stay_float32(half: Predictor) -> None:
    network = half._network
    assert half.dtype == str(network.dtype).removeprefix("torch.") != "float32"
    for part in (
        network.detector_model.detr_decoder,
        network.detector_model.geometry_encoder,
        network.detector_model.dot_product_scoring,
        network.tracker_model,
    ):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in network.detector_model.vision_encoder.parameters()} == {network.dtype}


def test_auto_picks_float16_on_cuda_and_float32_for_small_models() -> None:
    assert resolve_dtype("auto", torch.device("cuda", 0), 848_000_000) == torch.float16
    assert resolve_dtype("auto", torch.device("cuda", 0), 3_000_000) == torch.float32
    assert resolve_dtype("bfloat16", torch.device("cpu"), 3_000_000) == torch.bfloat16


def test_auto_on_a_cpu_is_bfloat16_only_where_it_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for computes, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("sam3_backend.model.device._cpu_computes_in_bfloat16", lambda answer=computes: answer)
        assert resolve_dtype("auto", torch.device("cpu"), 848_000_000) == expected
