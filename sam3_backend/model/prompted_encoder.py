"""The detector's encoder: a picture's patches look at each other and at the prompt, layer by layer.

The layers are transformers'; the loop is written here because the first look at each other comes before the first look
at a prompt: it is the same for every prompt, and is done once a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def first_look(encoder: Any, patches: Tensor, positions: Tensor) -> Tensor:
    """What the first layer does before it meets a prompt.

    Args:
        encoder: transformers' ``Sam3DetrEncoder``.
        patches: (1, g * g, C), the picture's coarsest level.
        positions: (1, g * g, C), same dtype.

    Returns:
        (1, g * g, C).
    """
    return _look_around(encoder.layers[0], patches, positions)


def encode_prompted(
    encoder: Any, looked: Tensor, *, positions: Tensor, prompts: Tensor, prompt_mask: Tensor | None
) -> Tensor:
    """Everything after the first look.

    Args:
        encoder: transformers' ``Sam3DetrEncoder``.
        looked: (1, g * g, C) from ``first_look``.
        positions: (1, g * g, C), same dtype.
        prompts: (B, n, C) prompt tokens, same dtype.
        prompt_mask: (B, n) bool, False at padding; None where nothing is padded.

    Returns:
        (B, g * g, C), the picture in the light of each prompt.
    """
    mask = None if prompt_mask is None else prompt_mask[:, None, None, :]
    patches = looked.expand(prompts.shape[0], -1, -1)
    for index, layer in enumerate(encoder.layers):
        if index:
            patches = _look_around(layer, patches, positions)
        attended, _ = layer.cross_attn(
            query=layer.layer_norm2(patches), key=prompts, value=prompts, attention_mask=mask
        )
        patches = patches + attended
        patches = patches + layer.mlp(layer.layer_norm3(patches))
    return patches


def _look_around(layer: Any, patches: Tensor, positions: Tensor) -> Tensor:
    normed = layer.layer_norm1(patches)
    placed = normed + positions
    attended, _ = layer.self_attn(query=placed, key=placed, value=normed)
    looked: Tensor = patches + attended
    return looked
