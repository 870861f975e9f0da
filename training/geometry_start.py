"""Initial weights of the geometry encoder: an exemplar's token starts as what lies in the middle of its box.

Knows the geometry encoder's parts. Knows nothing of training.
"""

from __future__ import annotations

import torch
from torch import nn

POOLED, PLACED, LOOKED, THOUGHT = 2.0, 0.3, 0.1, 0.3
"""Initial gains of the features in the box, of its place and size, of the attention layers and of the MLP."""


@torch.no_grad()
def start_geometry_encoder(encoder: nn.Module) -> None:
    """Fresh weights in place; also mends one in which attention over the picture drowned what is in the box.

    Args:
        encoder: `Sam3Model.geometry_encoder`.
    """
    for part in encoder.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    pool: nn.Conv2d = encoder.boxes_pool_project  # type: ignore[assignment]
    side, width = pool.kernel_size[0], pool.out_channels
    window = torch.hann_window(side + 2, periodic=False)[1:-1]
    window = window[:, None] * window
    mixed = nn.init.xavier_uniform_(torch.empty(width, pool.in_channels))
    pool.weight.copy_(POOLED * mixed[..., None, None] * window / window.sum())
    nn.init.zeros_(pool.bias)  # type: ignore[arg-type]
    for placed in (encoder.boxes_direct_project, encoder.boxes_pos_enc_project):
        placed.weight.mul_(PLACED)  # type: ignore[union-attr, operator]
    for layer in encoder.layers:  # type: ignore[union-attr]
        layer.cross_attn.o_proj.weight.mul_(LOOKED)
        layer.self_attn.o_proj.weight.mul_(LOOKED)
        layer.mlp.fc2.weight.mul_(THOUGHT)
