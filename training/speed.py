"""Makes training steps on a CPU cheaper without changing what is computed, up to bfloat16 rounding.

Knows transformers' attention registry. Knows nothing of the losses.
Underscored names of torch and transformers are used on purpose: they have no public counterpart.
"""

# ruff: noqa: SLF001
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

FAST_DTYPE = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
"""What this processor multiplies fastest: bfloat16 without instructions for it is ten times as slow as float32."""
_NAME = "lean"
_LARGE = 100_000
"""Maps of this many weights or more are worth the detour."""
_REPEATED = ("Sam3ViTLayer", "Sam3DetrEncoderLayer", "Sam3FPNLayer", "Sam3PixelDecoder")


class _CachedAttention(torch.autograd.Function):
    """Attention of one head at a time, so that its map stays in the processor's cache; recomputed backwards."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All [B, heads, tokens, width]; the query is scaled already."""
        q, k, v = (part.flatten(0, 1).contiguous() for part in (query, key, value))
        mixed = torch.empty_like(q)
        for i in range(len(q)):
            torch.mm(_softmax(q[i] @ k[i].T), v[i], out=mixed[i])
        ctx.save_for_backward(q, k, v, mixed)
        return mixed.view(query.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, mixed = ctx.saved_tensors
        given = gradient.to(q.dtype).reshape(q.shape).contiguous()
        for_q, for_k, for_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        offset = (given * mixed).sum(-1, keepdim=True)
        for i in range(len(q)):
            weights = _softmax(q[i] @ k[i].T)
            torch.mm(weights.T, given[i], out=for_v[i])
            for_scores = torch.mm(given[i], v[i].T).sub_(offset[i]).mul_(weights)
            torch.mm(for_scores, k[i], out=for_q[i])
            torch.mm(for_scores.T, q[i], out=for_k[i])
        heads = gradient.shape[:2]
        return tuple(part.view(*heads, *part.shape[1:]) for part in (for_q, for_k, for_v))  # type: ignore[return-value]


def _softmax(scores: Tensor) -> Tensor:
    """Rows of a map, kept in its precision (`torch.softmax` would go to float32 under autocast)."""
    return torch._softmax(scores, -1, half_to_float=False)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _cached_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return _CachedAttention.apply(query, key, value)  # type: ignore[no-any-return]


def lean_attention(
    module: nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,  # noqa: ARG001
    **_: Any,
) -> tuple[Tensor, None]:
    """Plain matrix-product attention in one precision; its backward pass beats the fused kernel's on a CPU.

    Large maps without a mask go through `_CachedAttention`.

    Args:
        module: unused, part of the registry's signature.
        query: [B, heads, Tq, width].
        key: [B, heads, Tk, width].
        value: [B, heads, Tk, width].
        attention_mask: additive [B, 1 | heads, Tq, Tk], or None.
        scaling: factor on the products.
        dropout: unused (the demo model has none).

    Returns:
        [B, Tq, heads, width], and None for the weights.
    """
    if attention_mask is None and query.shape[2] * key.shape[2] >= _LARGE and query.dtype == FAST_DTYPE:
        return _cached_attention(query * scaling, key, value).transpose(1, 2).contiguous(), None
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask.to(scores.dtype)
    mixed = torch.matmul(_softmax(scores), value)
    return mixed.transpose(1, 2).contiguous(), None


def prepare_for_speed(network: nn.Module, *, compiled: bool) -> None:
    """Gives all attention layers `lean_attention`, and compiles the repeated blocks if wanted."""
    AttentionInterface.register(_NAME, lean_attention)
    AttentionMaskInterface.register(_NAME, eager_mask)
    for module in network.modules():
        config = getattr(module, "config", None)
        if config is not None and getattr(config, "_attn_implementation", None) is not None:
            config._attn_implementation = _NAME
    if compiled:
        for module in network.modules():
            if type(module).__name__ in _REPEATED:
                module.compile(dynamic=False)
