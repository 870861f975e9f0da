"""Starting from an existing checkpoint instead of from random weights.

Knows the checkpoint's tensor names. Knows nothing of training.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.export import exported_tensors
from training.wiring import view

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from training.network import Network


@torch.no_grad()
def warm_start(network: Network, checkpoint: Path) -> list[str]:
    """Takes over a checkpoint's weights, also those of another grid, patch size or number of queries.

    Returns:
        Names of the checkpoint's tensors that found no place.
    """
    from safetensors.torch import load_file

    own = dict(exported_tensors(network))
    lost = []
    for name, stored in load_file(checkpoint / "model.safetensors").items():
        value = stored.float() if stored.is_floating_point() else stored
        target = own.get(name)
        if name.endswith("reference_points.weight") and target is not None and target.shape != value.shape:
            continue  # one box a grid cell, as in a fresh network
        if target is not None and target.shape != value.shape and target.dim() == value.dim():
            value = _regrid(value, target.shape)
        if target is None or target.shape != value.shape:
            lost.append(name)
        else:
            target.copy_(value)
    return lost


def _regrid(value: Tensor, shape: torch.Size) -> Tensor:
    """Bicubic resize of a patch kernel, or of a [n*n, C] or [1, n*n, C] table to m*m rows; else the value as it is."""
    if value.dim() == 4 and value.shape[:2] == shape[:2]:
        shrink = value.shape[-1] * value.shape[-2] / (shape[-1] * shape[-2])
        return functional.interpolate(value, shape[-2:], mode="bicubic", align_corners=False) * shrink
    rows, width = value.shape[-2:]
    old, new = math.isqrt(rows), math.isqrt(shape[-2])
    if value.dim() > 3 or width != shape[-1] or old * old != rows or new * new != shape[-2]:
        return value
    plane = value.reshape(1, old, old, width).permute(0, 3, 1, 2)
    resized = functional.interpolate(plane, (new, new), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(shape)


@torch.no_grad()
def soften_if_hard(network: Network, pixels: Tensor) -> None:
    """Softens a checkpoint whose coarse features of these pictures are large; another one stays as it is."""
    coarse = view(network, pixels, masked=0, clicked=0).detector[0]
    if float(coarse.square().mean().sqrt()) > 8:
        soften(network)


@torch.no_grad()
def soften(network: Network, detector: float = 32.0, tracker: float = 12.0, middle: float = 30.0) -> None:
    """Makes the heads' image features smaller, so that attention over the picture is soft and can learn.

    A checkpoint whose necks were trained without any normalisation can end with features of standard deviation 30 to
    130. Every attention over the image is then one-hot (scores in the hundreds): prompts and positions drown, and the
    gradient is chaotic. What follows a normalisation is divided consistently and stays as it was; the attention of
    the query decoder, the geometry encoder and the first click layer becomes softer by these factors.

    Args:
        network: changed in place.
        detector: divisor of the detector's coarse features.
        tracker: divisor of the click decoder's coarse features.
        middle: divisor of the click decoder's middle features.
    """
    model, clicks = network.detector, network.tracker.mask_decoder
    fusion = [part for layer in model.detr_encoder.layers for part in _outputs(layer)]
    for part in (*(model.vision_encoder.neck.fpn_layers[level].proj2 for level in (1, 2)), *fusion):
        _divide(part, detector)
    _divide(model.mask_decoder.prompt_cross_attn.o_proj, detector)
    model.mask_decoder.pixel_decoder.conv_layers[0].bias.div_(detector)
    network.concept_head.weight.mul_(detector)
    readers = [layer.vision_cross_attn for layer in model.detr_decoder.layers]
    for reader in (*readers, *(layer.cross_attn for layer in model.geometry_encoder.layers)):
        reader.v_proj.weight.mul_(2)
    _divide(network.tracker.vision_encoder.neck.fpn_layers[2].proj2, tracker)
    _divide(clicks.conv_s1, middle)


def _outputs(layer: nn.Module) -> tuple[nn.Linear, ...]:
    """The linear layers of an encoder layer that write to its residual stream."""
    return layer.self_attn.o_proj, layer.cross_attn.o_proj, layer.mlp.fc2  # type: ignore[union-attr, return-value]


def _divide(part: nn.Linear | nn.Conv2d, divisor: float) -> None:
    part.weight.div_(divisor)
    if part.bias is not None:
        part.bias.div_(divisor)
