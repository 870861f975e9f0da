"""What image tokens should tell by themselves: helpers for the image encoder and the detector's neck.

Read off by linear heads that are not exported. Learning this first is what makes training short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.losses import Log, to_cxcywh
from training.vocabulary import COLOURS, SHAPES

if TYPE_CHECKING:
    from training.batches import Pictures
    from training.network import Network

_SHAPES, _COLOURS = len(SHAPES) + 1, len(COLOURS) + 1
"""Classes; the last of each is background."""


def kind_loss(network: Network, coarse: Tensor, pictures: Pictures, log: Log) -> Tensor:
    """Each token of the detector's coarse features [B, width, G, G] tells the shape and colour under it."""
    shape, colour = _kinds(network.kind_head(coarse.flatten(2).transpose(1, 2)).float(), pictures, _shares(pictures))
    log["kind"] = float(shape.detach() + colour.detach())
    return shape + 0.5 * colour


def _shares(pictures: Pictures) -> Tensor:
    """How much of each token each instance covers: [B, M, T]."""
    return functional.avg_pool2d(pictures.cover, 4).flatten(2)


def _kinds(answer: Tensor, pictures: Pictures, share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean losses of shape and colour, read from the first outputs [B, T, shapes + colours + ...]."""
    empty = (1 - share.sum(1)).clamp(min=0)
    weight = 0.25 + 1.5 * (1 - empty)
    shape = _soft_labels(answer[..., :_SHAPES], pictures.shape, share, empty)
    colour = _soft_labels(answer[..., _SHAPES : _SHAPES + _COLOURS], pictures.colour, share, empty)
    return (shape * weight).mean(), (colour * weight).mean()


def token_loss(network: Network, tokens: Tensor, pictures: Pictures, log: Log) -> Tensor:
    """Each image token [B, T, C] of the encoder's output tells the shape, colour, box and 4x4 mask under it."""
    count, grid = len(tokens), network.sizes.grid
    share = _shares(pictures)
    answer = network.token_head(tokens).float()
    shape_mean, colour_mean = _kinds(answer, pictures, share)
    top = share.argmax(1)
    own_box = to_cxcywh(pictures.boxes).gather(1, top[..., None].expand(-1, -1, 4))
    inside = (share.amax(1) > 0.3).float()
    first = _SHAPES + _COLOURS
    box_error = (answer[..., first : first + 4].sigmoid() - own_box).abs().sum(-1)
    box_loss = (box_error * inside).sum() / inside.sum().clamp(min=1)
    cells = (
        pictures.cover.reshape(count, -1, grid, 4, grid, 4)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(count, grid * grid, -1, 16)
    )
    own_cells = cells.gather(2, top[..., None, None].expand(-1, -1, 1, 16))[:, :, 0]
    touched = (share.amax(1) > 0.01).float()
    cell_error = functional.binary_cross_entropy_with_logits(
        answer[..., first + 4 :], own_cells, reduction="none"
    ).mean(-1)
    cell_loss = (cell_error * touched).sum() / touched.sum().clamp(min=1)
    log |= {
        "shape": float(shape_mean.detach()),
        "colour": float(colour_mean.detach()),
        "cells": float(cell_loss.detach()),
    }
    return 2 * shape_mean + colour_mean + 2 * box_loss + 2 * cell_loss


def _soft_labels(logits: Tensor, label: Tensor, share: Tensor, empty: Tensor) -> Tensor:
    """Cross entropy [B, T] against how much of each label a token covers; the last class is background."""
    wanted = torch.zeros(len(label), logits.shape[-1], share.shape[-1])
    there = (label >= 0).float()[..., None]
    wanted.scatter_add_(1, label.clamp(min=0)[..., None].expand_as(share), share * there)
    wanted[:, -1] = empty
    return -(wanted.transpose(1, 2) * logits.log_softmax(-1)).sum(-1)
