"""The click decoder as it runs: transformers' layers, reordered around the few tokens that a prompt has.

Of its two sides one is large, the picture's g * g patches, and one small: mask tokens and prompt tokens, eight for a
click. transformers projects both sides to queries, keys and values. Projections are linear, so that those of the large
side can be applied to the small one instead: the product of a query with a projected patch is that of a projected query
with the patch, and a weighted sum of projected patches is the projected sum. What is the same for every picture, such
as products of weights, is derived once. The numbers are transformers' up to rounding, in half the time.

Computes in float32, for a batch of pictures with one object each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear, scaled_dot_product_attention

if TYPE_CHECKING:
    from collections.abc import Sequence


class PromptTokens:
    """Points and corners of boxes as tokens: where they are, and what they are.

    Args:
        encoder: transformers' ``Sam3TrackerPromptEncoder``.
        frame_px: Side of the square that coordinates are counted in.

    Attributes:
        end: (1, C), the token that stands for "no further prompt" in every prompt.
    """

    def __init__(self, encoder: Any, frame_px: int) -> None:
        # The position encoding is sine and cosine of a projection of coordinates from -1 to 1, at the pixels' centres.
        turns = 2 * torch.pi * encoder.shared_embedding.positional_embedding
        self._project = (turns * 2 / frame_px).T
        self._offset = (turns * (1 / frame_px - 1)).sum(dim=0)
        self._kinds = encoder.point_embed.weight
        self.end = encoder.not_a_point_embed.weight

    def __call__(self, marks: Tensor, kinds: Tensor) -> Tensor:
        """(B, p, 2) float32 XY in the frame and (B, p) int64 kinds to (B, p, C)."""
        angles = linear(marks, self._project, self._offset)
        return torch.cat([angles.sin(), angles.cos()], dim=-1) + embedding(kinds, self._kinds)


class ClickDecoder:
    """The mask decoder of a click head, its weights loaded.

    Args:
        decoder: transformers' ``Sam3TrackerMaskDecoder``.
        positions: (g * g, C) position encoding of the patches.
        end: (1, C), the token that ends every prompt.
    """

    def __init__(self, decoder: Any, positions: Tensor, end: Tensor) -> None:
        self._decoder = decoder
        self._positions = positions
        transformer = decoder.transformer
        self._layers = [_Layer(layer, positions) for layer in transformer.layers]
        self._last_look = _TokensLook(transformer.final_attn_token_to_image)
        self._last_norm = transformer.layer_norm_final_attn
        # Tokens know no order: the one that ends a prompt may stand in front of it, with those that are always there.
        own = [each.weight for each in (decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens)]
        self._always = torch.cat([*own, end])
        self._hypernetworks = _Side.of(decoder.output_hypernetworks_mlps)
        self._up1, self._up2 = _Quadrupling(decoder.upscale_conv1), _Quadrupling(decoder.upscale_conv2)

    def __call__(
        self, features: Sequence[Tensor], prompt: Tensor, dense: Tensor, *, multimask: bool
    ) -> Sequence[Tensor]:
        """Masks of one object in each of B pictures.

        Args:
            features: (B, C / 8, 4g, 4g), (B, C / 4, 2g, 2g) and (B, C, g, g), float32.
            prompt: (B, p, C) prompt tokens, without the one that ends them.
            dense: (B or 1, C, g or 1, g or 1), what is added to the coarsest features: the mask to refine, or that
                there is none.
            multimask: Three masks per object instead of one.

        Returns:
            Mask logits (B, m, 4g, 4g) and predicted IoU (B, m).
        """
        fine, middle, coarse = features
        start = torch.cat([self._always.expand(prompt.shape[0], -1, -1), prompt], dim=1)
        patches = (coarse + dense).flatten(2).transpose(1, 2).contiguous()
        tokens = start
        for index, layer in enumerate(self._layers):
            tokens, patches = layer(tokens, patches, start, is_first=index == 0)
        tokens = self._last_norm(tokens + self._last_look(tokens + start, patches + self._positions, patches))
        weights = self._hypernetworks(tokens[:, 2 : 2 + self._decoder.num_mask_tokens])
        masks = (weights @ self._pixels(patches, middle, fine)).view(prompt.shape[0], -1, *fine.shape[-2:])
        iou_scores = self._decoder.iou_prediction_head(tokens[:, 1])
        if multimask:
            return masks[:, 1:], iou_scores[:, 1:]
        if self._decoder.dynamic_multimask_via_stability:
            chosen = self._decoder._dynamic_multimask_via_stability(masks[:, None], iou_scores[:, None])  # noqa: SLF001
            return [each[:, 0] for each in chosen]
        return masks[:, :1], iou_scores[:, :1]

    def _pixels(self, patches: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        """(B, C / 8, 16 g * g): patches at four times their side, in the light of the finer levels."""
        norm = self._decoder.upscale_layer_norm
        side = middle.shape[-1]
        doubled = self._up1(patches, side // 2).reshape(patches.shape[0], side, side, -1) + middle.permute(0, 2, 3, 1)
        doubled = gelu(layer_norm(doubled, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
        again = self._up2(doubled.flatten(1, 2), side).permute(0, 5, 1, 2, 3, 4).reshape(fine.shape)
        return gelu(again.add_(fine)).flatten(2)


class _Layer:
    """One of transformers' ``Sam3TrackerTwoWayAttentionBlock``."""

    def __init__(self, layer: Any, positions: Tensor) -> None:
        self._layer = layer
        self._positions = positions
        self._own_look = _TokensLook(layer.self_attn)
        self._tokens_look = _TokensLook(layer.cross_attn_token_to_image)
        self._patches_look = _PatchesLook(layer.cross_attn_image_to_token)

    def __call__(self, tokens: Tensor, patches: Tensor, start: Tensor, *, is_first: bool) -> tuple[Tensor, Tensor]:
        layer, placed = self._layer, patches + self._positions
        if is_first:
            tokens = self._own_look(tokens, tokens, tokens)
        else:
            where = tokens + start
            tokens = tokens + self._own_look(where, where, tokens)
        tokens = layer.layer_norm1(tokens)
        tokens = layer.layer_norm2(tokens + self._tokens_look(tokens + start, placed, patches))
        tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
        return tokens, layer.layer_norm4(self._patches_look(patches, placed, tokens + start, tokens))


class _TokensLook:
    """Tokens attend to patches, or to each other; the keys' and values' projections are applied to who asks."""

    def __init__(self, attention: Any) -> None:
        query, key, value = (
            _by_head(attention, each) for each in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        # The keys' bias adds the same to all scores of a query, which the softmax takes away again.
        self._ask = attention.scaling * torch.einsum("hdc,hde->hce", key[0], query[0]).flatten(0, 1)
        self._ask_bias = attention.scaling * torch.einsum("hdc,hd->hc", key[0], query[1]).flatten()
        out = attention.o_proj.weight.unflatten(1, value[1].shape)
        self._tell = torch.einsum("ohd,hdc->ohc", out, value[0]).flatten(1)
        self._tell_bias = torch.einsum("ohd,hd->o", out, value[1]) + attention.o_proj.bias

    def __call__(self, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        asked = linear(tokens, self._ask, self._ask_bias).view(batch, -1, width)
        seen = scaled_dot_product_attention(asked, keys, values, scale=1.0)
        return linear(seen.view(batch, count, -1), self._tell, self._tell_bias)


class _PatchesLook:
    """Patches attend to tokens; the queries' projection and the one behind are applied to the tokens' side."""

    def __init__(self, attention: Any) -> None:
        query, key, value = (
            _by_head(attention, each) for each in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        self._heads = len(query[0])
        # What a token offers to patches, and behind it, how much it offers wherever a patch is.
        offer = torch.einsum("hdc,hde->hce", query[0], key[0]), torch.einsum("hd,hde->he", query[1], key[0])[:, None]
        bias = torch.einsum("hdc,hd->hc", query[0], key[1]), (query[1] * key[1]).sum(dim=1, keepdim=True)
        self._offer = attention.scaling * torch.cat(offer, dim=1).flatten(0, 1)
        self._offer_bias = attention.scaling * torch.cat(bias, dim=1).flatten()
        out = attention.o_proj.weight.unflatten(1, value[1].shape)
        self._give = torch.einsum("ohd,hdc->hoc", out, value[0]).flatten(0, 1)
        # The weights of each head add up to one, so that its share of the last bias may ride along with the values.
        self._give_bias = (torch.einsum("ohd,hd->ho", out, value[1]) + attention.o_proj.bias / self._heads).flatten()

    def __call__(self, patches: Tensor, placed: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        batch, count, width = values.shape
        offered = linear(keys, self._offer, self._offer_bias).view(batch, -1, width + 1)
        given = linear(values, self._give, self._give_bias).view(batch, -1, width)
        scores = torch.baddbmm(offered[:, :, -1:], offered[:, :, :-1], placed.transpose(1, 2))
        weights = scores.view(batch, count, self._heads, -1).softmax(dim=1).view(scores.shape)
        return torch.baddbmm(patches, weights.transpose(1, 2), given)


class _Quadrupling:
    """A transposed convolution of 2 x 2 with stride 2: each pixel becomes four, on its own."""

    def __init__(self, convolution: Any) -> None:
        self._weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
        self._bias = convolution.bias.repeat(4)

    def __call__(self, pixels: Tensor, side: int) -> Tensor:
        """(B, side * side, C_in) to (B, side, 2, side, 2, C_out)."""
        each = linear(pixels, self._weight, self._bias)
        return each.view(pixels.shape[0], side, side, 2, 2, -1).transpose(2, 3)


class _Side:
    """Perceptrons of equal shape side by side, one for each token."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    @classmethod
    def of(cls, perceptrons: Sequence[Any]) -> _Side:
        """Of transformers' ``Sam3TrackerFeedForward``."""
        rows = [[each.proj_in, *each.layers, each.proj_out] for each in perceptrons]
        return cls(
            [
                (torch.stack([each.weight.T for each in same]), torch.stack([each.bias for each in same])[:, None])
                for same in zip(*rows, strict=True)
            ]
        )

    def __call__(self, tokens: Tensor) -> Tensor:
        """(B, n, C_in) to (B, n, C_out), the nth token through the nth perceptron."""
        by_token = tokens.transpose(0, 1)
        for index, (weight, bias) in enumerate(self._layers):
            by_token = torch.baddbmm(bias, by_token.relu() if index else by_token, weight)
        return by_token.transpose(0, 1)


def _by_head(attention: Any, projection: Any) -> tuple[Tensor, Tensor]:
    """A projection's weight (heads, d, C) and bias (heads, d)."""
    heads = attention.num_attention_heads
    return projection.weight.unflatten(0, (heads, -1)), projection.bias.unflatten(0, (heads, -1))
