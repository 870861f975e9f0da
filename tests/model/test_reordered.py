"""What runs in place of transformers' own layers gives their numbers, at the borders too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from sam3_backend.model.neck import Doubling, pyramid

if TYPE_CHECKING:
    from sam3_backend import Predictor


def _other_weights(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with weights and biases all of a size that shows."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) / 5)
    return module


class Level(torch.nn.Module):
    """The layers of one level of a neck, as transformers names them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_layers = torch.nn.ModuleList([torch.nn.ConvTranspose2d(10, 6, kernel_size=2, stride=2)])
        self.proj1 = torch.nn.Conv2d(6, 7, kernel_size=1)
        self.proj2 = torch.nn.Conv2d(7, 9, kernel_size=3, padding=1)

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        return self.proj2(self.proj1(self.scale_layers[0](level)))


@pytest.mark.parametrize("side", [1, 2, 5])
@torch.no_grad()
def test_a_level_s_last_layers_are_one_step(side: int) -> None:
    level, then = _other_weights(Level(), 1), _other_weights(torch.nn.Conv2d(9, 3, kernel_size=1), 2)
    seen = torch.randn(2, 10, side, side, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(Doubling.of_level(level)(seen), level(seen), atol=1e-5, rtol=0)
    torch.testing.assert_close(Doubling.of_level(level, then)(seen), then(level(seen)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 5])
@torch.no_grad()
def test_repeated_pixels_are_never_made(side: int) -> None:
    convolution = _other_weights(torch.nn.Conv2d(6, 6, kernel_size=3, padding=1), 1)
    level = torch.randn(1, 6, side, side, generator=torch.Generator().manual_seed(2))
    repeated = level.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    doubled = Doubling.of_repetition(convolution)(level) + convolution.bias[:, None, None]
    torch.testing.assert_close(doubled, convolution(repeated), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_both_necks_see_what_transformers_necks_see(demo: Predictor) -> None:
    network = demo._network
    seen = _as_grid(_hidden(network))
    for ours, theirs in zip(pyramid(network.detector_model.vision_encoder.neck), _levels(network, seen), strict=True):
        torch.testing.assert_close(ours(seen), theirs, atol=1e-5, rtol=0)
    projections = network.tracker_model.projections
    *finer, coarse = (layer(seen) for layer in network.tracker_neck.fpn_layers[:3])
    expected = [project(level) for project, level in zip(projections, finer, strict=True)] + [coarse]
    for ours, theirs in zip(pyramid(network.tracker_neck, projections), expected, strict=True):
        torch.testing.assert_close(ours(seen), theirs, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_masks_are_those_of_transformers_mask_decoder(demo: Predictor) -> None:
    network, hidden = demo._network, _hidden(demo._network)
    features = network.picture_features(hidden)
    words = torch.randn(1, 5, features.cls_token.shape[-1], generator=torch.Generator().manual_seed(2))
    candidates = network.detect(features, words)
    chosen = torch.tensor([3, 0])
    theirs = network.detector_model.mask_decoder(
        decoder_queries=candidates.queries[:, chosen],
        backbone_features=_levels(network, _as_grid(hidden)),
        encoder_hidden_states=candidates.encoded,
        prompt_features=words,
    ).pred_masks[0]
    ours = network.mask_logits(features, candidates, 0, chosen)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("refines", [True, False])
@torch.inference_mode()
def test_clicks_are_decoded_as_by_transformers_decoder(demo: Predictor, *, multimask: bool, refines: bool) -> None:
    head = demo._network.tracker_model
    random = torch.Generator().manual_seed(1)
    features = [each.repeat(2, 1, 1, 1) for each in demo._network.click_features(_hidden(demo._network))]
    points, corners = torch.rand(2, 3, 2, generator=random) * 500, torch.tensor([[[40.0, 60.0], [300.0, 200.0]]] * 2)
    labels = torch.tensor([[1, 0, 1], [0, 1, 1]])
    logits = torch.randn(2, 4 * 32, 4 * 32, generator=random) if refines else None
    kinds = torch.cat([labels, torch.tensor([[2, 3]] * 2)], dim=1)
    asked = [torch.cat([points, corners], dim=1), kinds] + ([logits] if refines else [])
    pictures, prompts = (list(zip(*(each.split(1) for each in parts), strict=True)) for parts in (features, asked))
    ours = head(pictures, prompts, multimask=multimask)
    head.mask_decoder.config._attn_implementation = "sdpa"
    boxes = corners.flatten(1)[:, None]
    before = None if logits is None else logits[:, None]
    prompt, dense = head.prompt_encoder(points[:, None], labels[:, None], boxes, before)
    positions = head._positions().T.unflatten(1, (32, 32))[None].repeat(2, 1, 1, 1)
    masks, iou_scores, *_ = head.mask_decoder(
        image_embeddings=features[2],
        image_positional_embeddings=positions,
        sparse_prompt_embeddings=prompt,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        high_resolution_features=features[:2],
    )
    torch.testing.assert_close(ours[0], masks[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours[1], iou_scores[:, 0], atol=1e-5, rtol=0)


def _hidden(network: Any) -> torch.Tensor:
    """What the backbone might have seen: (1, g * g, D)."""
    width = network.architecture.detector.vision_config.backbone_config.hidden_size
    return torch.randn(1, network.architecture.grid_size**2, width, generator=torch.Generator().manual_seed(1))


def _as_grid(hidden: torch.Tensor) -> torch.Tensor:
    side = round(hidden.shape[1] ** 0.5)
    return hidden.transpose(1, 2).unflatten(2, (side, side))


def _levels(network: Any, seen: torch.Tensor) -> list[torch.Tensor]:
    return [layer(seen) for layer in network.detector_model.vision_encoder.neck.fpn_layers[:3]]
