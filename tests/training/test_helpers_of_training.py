"""The helpers that make training short: names for exemplars, kinds for tokens, softer features."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from tiny import TINY

from training import likeness
from training.batches import Pictures, draw_pictures
from training.likeness import exemplar_tokens, likeness_loss
from training.network import Network
from training.shapes import Settings
from training.token_losses import kind_loss
from training.vocabulary import COLOURS, SHAPES
from training.warm_start import soften_if_hard
from training.wiring import view
from training.words import build_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import CLIPTokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    return build_tokenizer(directory)


@pytest.fixture
def network(tokenizer: CLIPTokenizer) -> Network:
    torch.manual_seed(3)
    return Network(replace(TINY, vocabulary=len(tokenizer)))


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_pictures(range(3), Settings(), TINY.image_px, TINY.low_res)


def coarse_of(network: Network, pictures: Pictures) -> torch.Tensor:
    return view(network, pictures.pixels, masked=0, clicked=0).detector[0]


def test_an_exemplar_that_says_its_name_costs_nothing(
    network: Network, pictures: Pictures, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = likeness._names(network, tokenizer)
    rows, slots = torch.nonzero(pictures.shape >= 0, as_tuple=True)
    kinds = pictures.shape[rows, slots] * len(COLOURS) + pictures.colour[rows, slots]
    by_box = {tuple(box.tolist()): kind for box, kind in zip(pictures.boxes[rows, slots], kinds, strict=True)}

    def said(shift: int) -> object:
        def answer(_network: Network, _coarse: torch.Tensor, _rows: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
            return torch.stack([names[(by_box[tuple(box.tolist())] + shift) % len(names)] for box in boxes])

        return answer

    figures: list[dict[str, float]] = [{}, {}]
    for shift, log in enumerate(figures):
        monkeypatch.setattr(likeness, "exemplar_tokens", said(shift))
        likeness_loss(network, coarse_of(network, pictures), pictures, tokenizer, 100, log)
    own, neighbours = figures
    assert own["likeness"] == 0
    assert own["picked"] == 1
    assert neighbours["likeness"] > 0
    assert neighbours["picked"] == 0


def test_names_differ_by_kind(network: Network, tokenizer: CLIPTokenizer) -> None:
    names = likeness._names(network, tokenizer)
    assert len(names) == len(SHAPES) * len(COLOURS)
    assert torch.cdist(names, names).fill_diagonal_(1).min() > 1e-3


def test_an_exemplar_is_read_from_its_own_picture(network: Network, pictures: Pictures) -> None:
    coarse = coarse_of(network, pictures)
    box = torch.tensor([[0.2, 0.2, 0.7, 0.7]]).expand(2, -1)
    torch.manual_seed(0)
    first = exemplar_tokens(network, coarse, torch.tensor([0, 1]), box)
    torch.manual_seed(0)
    swapped = exemplar_tokens(network, coarse, torch.tensor([1, 0]), box)
    assert (first[0] - first[1]).abs().max() > 1e-3
    assert (first[0] - swapped[0]).abs().max() > 1e-3


def test_kinds_can_be_read_off_features_that_hold_them(network: Network, pictures: Pictures) -> None:
    """The kind head, trained alone on fixed features, gets better at them."""
    coarse = coarse_of(network, pictures).detach()
    optimiser = torch.optim.Adam(network.kind_head.parameters(), 0.02)
    course = []
    for _ in range(40):
        loss = kind_loss(network, coarse, pictures, {})
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        course.append(float(loss.detach()))
    assert course[-1] < 0.7 * course[0]


def test_only_large_features_are_softened(network: Network, pictures: Pictures) -> None:
    last = network.detector.vision_encoder.neck.fpn_layers[2].proj2
    small = last.weight.detach().clone()
    soften_if_hard(network, pictures.pixels)
    assert torch.equal(last.weight, small)
    with torch.no_grad():
        last.weight.mul_(1000)
    soften_if_hard(network, pictures.pixels)
    assert last.weight.abs().max() < 1000 * small.abs().max()
