"""The detector's query decoder in float32: where boxes are refined layer by layer.

The layers are transformers'; the loop is written here so that boxes and presence keep float32 in a half-precision
model, so that the grid's shape is plain numbers (exporters need that), and so that only the last layer's answer is
kept.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def decode_queries(
    decoder: Any,
    *,
    encoded: Tensor,
    positions: Tensor,
    prompts: Tensor,
    prompt_mask: Tensor | None,
    grid_size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the decoder's layers.

    Args:
        decoder: transformers' ``Sam3DetrDecoder``, float32.
        encoded: (B, g * g, C) float32, the picture after it met the prompt.
        positions: (1, g * g, C) float32.
        prompts: (B, n, C) float32.
        prompt_mask: (B, n) bool, False at padding; None where nothing is padded.
        grid_size: g.

    Returns:
        Queries (B, Q, C), boxes xyxy as fractions of the picture (B, Q, 4), presence logits (B,).
    """
    batch = encoded.shape[0]
    boxes = decoder.reference_points.weight.sigmoid().expand(batch, -1, -1)
    tokens = torch.cat([decoder.presence_token.weight, decoder.query_embed.weight]).expand(batch, -1, -1)
    text_mask = None if prompt_mask is None else prompt_mask[:, None, None, :]
    for layer in decoder.layers:
        bias = box_bias(decoder, boxes, grid_size)
        tokens = layer(
            tokens,
            query_pos=decoder.ref_point_head(decoder.position_encoding.encode_boxes(boxes)),
            text_features=prompts,
            vision_features=encoded,
            vision_pos_encoding=positions,
            text_cross_attn_mask=text_mask,
            # The presence token, first in the row, looks at the whole picture alike.
            vision_cross_attn_mask=torch.nn.functional.pad(bias, (0, 0, 1, 0)),
        )
        queries = decoder.output_layer_norm(tokens[:, 1:])
        boxes = (decoder.box_head(queries) + _inverse_sigmoid(boxes)).sigmoid()
    presence = decoder.presence_head(decoder.presence_layer_norm(tokens[:, 0]))[:, 0]
    limit = decoder.clamp_presence_logit_max_val
    return queries, _to_xyxy(boxes), presence.clamp(-limit, limit)


def box_bias(decoder: Any, boxes_cxcywh: Tensor, grid_size: int) -> Tensor:
    """Attention bias of every query towards the patches near its box, log-scaled distances to the four edges.

    Args:
        decoder: transformers' ``Sam3DetrDecoder``.
        boxes_cxcywh: (B, Q, 4), fractions of the picture.
        grid_size: g.

    Returns:
        (B, heads, Q, g * g).
    """
    edges = _to_xyxy(boxes_cxcywh)
    steps = torch.arange(grid_size, device=edges.device, dtype=edges.dtype) / grid_size
    to_x = decoder.box_rpb_embed_x(_log_scale(steps[:, None] - edges[:, :, None, 0::2]))
    to_y = decoder.box_rpb_embed_y(_log_scale(steps[:, None] - edges[:, :, None, 1::2]))
    bias = to_y[:, :, :, None] + to_x[:, :, None]
    heads_first: Tensor = bias.flatten(2, 3).permute(0, 3, 1, 2)
    return heads_first.contiguous()


def _log_scale(distance: Tensor) -> Tensor:
    return torch.sign(distance) * torch.log2(torch.abs(8 * distance) + 1) / math.log2(8)


def _inverse_sigmoid(fraction: Tensor) -> Tensor:
    return torch.log(fraction.clamp(1e-3, 1) / (1 - fraction).clamp(1e-3, 1))


def _to_xyxy(cxcywh: Tensor) -> Tensor:
    centre, half = cxcywh[..., :2], cxcywh[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)
