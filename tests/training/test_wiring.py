"""Training computes what the predictor computes: same weights, same picture, same answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tiny import TINY

from sam3_backend import Predictor
from sam3_backend.model.preprocessing import normalised, squeezed
from training.batches import to_prompts
from training.concepts import Concept
from training.network import Network
from training.shapes import draw
from training.warm_start import warm_start
from training.wiring import Clicks, Views, detect, segment, view

if TYPE_CHECKING:
    from pathlib import Path

    from sam3_backend.embeddings.embedding import Embedding

TOLERANCE = 1e-5
EXEMPLAR = (0.2, 0.3, 0.6, 0.8)


class Both:
    """One picture seen by the predictor and by the training code, with the weights of one checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        from transformers import CLIPTokenizer

        self.predictor = Predictor.load(str(checkpoint), device="cpu", dtype="float32")
        self.tokenizer = CLIPTokenizer.from_pretrained(checkpoint)
        self.network = Network(replace(TINY, vocabulary=len(self.tokenizer))).eval()
        assert not warm_start(self.network, checkpoint)
        self.image = draw(11).image
        self.embedding: Embedding = self.predictor.encode(self.image)
        with torch.no_grad():
            pixels = normalised(squeezed(self.image, TINY.image_px), torch.device("cpu"))
            self.views: Views = view(self.network, pixels, 1, 1)


@pytest.fixture(scope="module")
def both(trained: Path) -> Both:
    return Both(trained)


def farthest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest value where that is above 1."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def test_the_picture_looks_the_same(both: Both) -> None:
    assert farthest(both.views.tokens, both.embedding.tensors["hidden"].reshape(both.views.tokens.shape)) < TOLERANCE
    for ours, name in zip(both.views.tracker, ("click_fine", "click_middle", "click_coarse"), strict=True):
        assert farthest(ours, both.embedding.tensors[name]) < TOLERANCE


@pytest.mark.parametrize("with_exemplar", [False, True])
@torch.no_grad()
def test_a_concept_is_answered_the_same(both: Both, with_exemplar: bool) -> None:
    exemplars = ((EXEMPLAR, 1),) if with_exemplar else ()
    prompts = to_prompts(both.tokenizer, [(0, Concept("red circle", exemplars, ()))])
    ours = detect(both.network, both.views.detector, prompts, torch.tensor([0]))
    network, features = both.predictor._network, both.predictor.concepts.picture_features(both.embedding)
    geometry = features.cls_token
    if with_exemplar:
        geometry = network.exemplar_tokens(features, prompts.boxes[:, :1], prompts.labels[:, :1])
    theirs = network.detect(features, torch.cat([both.predictor.concepts.text_features("red circle"), geometry], 1))
    assert farthest(ours.logits[-1], theirs.logits) < TOLERANCE
    assert farthest(ours.presence[-1], theirs.presence_logits) < TOLERANCE
    centre, size = ours.boxes[-1].split(2, -1)
    assert farthest(torch.cat([centre - size / 2, centre + size / 2], -1), theirs.boxes_xyxy) < TOLERANCE
    masks = network.mask_logits(features, theirs, 0, torch.arange(TINY.queries))
    assert ours.masks is not None
    assert farthest(ours.masks[0], masks) < TOLERANCE


@torch.no_grad()
def test_clicks_and_boxes_are_answered_the_same(both: Both) -> None:
    height, width = both.image.shape[:2]
    scale = TINY.image_px / np.array([width, height])
    points, box = np.array([(40.0, 50.0), (90.0, 120.0)]), np.array([20.0, 30.0, 160.0, 140.0])
    moved = torch.from_numpy(points * scale).float()[None, None]
    labels = torch.tensor([[[1, 0]]])
    masks, quality, _ = segment(both.network, both.views.tracker, Clicks(moved[:, :, :1], labels[:, :, :1]))
    one = both.predictor.segment(both.embedding, points=points[:1])
    order = quality[0, 0, 1:].argsort(descending=True)
    assert farthest(masks[0, 0, 1 + order], torch.from_numpy(one.mask_logits)) < TOLERANCE
    earlier = one.mask_logits[0]
    again = both.predictor.segment(
        both.embedding, points=[(*points[0], 1), (*points[1], 0)], box=box, mask_logits=earlier, multimask=True
    )
    drawn = torch.from_numpy(box * np.tile(scale, 2)).float()[None, None]
    clicks = Clicks(moved, labels, drawn, torch.from_numpy(earlier)[None, None])
    masks, quality, _ = segment(both.network, both.views.tracker, clicks)
    order = quality[0, 0, 1:].argsort(descending=True)
    assert farthest(masks[0, 0, 1 + order], torch.from_numpy(again.mask_logits)) < TOLERANCE


@torch.no_grad()
def test_several_objects_are_answered_as_if_alone(both: Both) -> None:
    points = torch.tensor([[[[20.0, 30.0]], [[70.0, 80.0]]]])
    labels = torch.ones(1, 2, 1, dtype=torch.long)
    together, _, _ = segment(both.network, both.views.tracker, Clicks(points, labels))
    for i in range(2):
        alone, _, _ = segment(both.network, both.views.tracker, Clicks(points[:, i : i + 1], labels[:, i : i + 1]))
        assert farthest(together[:, i], alone[:, 0]) < TOLERANCE
