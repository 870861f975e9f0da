"""Drawing the masks of chosen queries: transformers' mask decoder, reordered so that prompts share what they can.

Its pixel decoder convolves the sum of a repeated coarse level and a finer one, twice. Convolution is linear: the finer
levels' share is the same for every prompt and is convolved once a picture, only when something is to be drawn; the
coarse level's share is a ``Doubling``. The projection of all pixels into the space of mask embeddings moves to the few
embeddings instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sam3_backend.model.neck import Doubling

if TYPE_CHECKING:
    from collections.abc import Sequence


class MaskHead:
    """The mask decoder of one network, its weights loaded.

    Args:
        decoder: transformers' ``Sam3MaskDecoder``.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._convolutions = decoder.pixel_decoder.conv_layers
        self._norms = decoder.pixel_decoder.norms
        self._doublings = [Doubling.of_repetition(each) for each in self._convolutions]

    def finer(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A picture's finer levels as the head adds them.

        Args:
            levels: (1, C, 4g, 4g) and (1, C, 2g, 2g) from the neck.

        Returns:
            Shapes (1, C, 2g, 2g) and (1, C, 4g, 4g), the order in which they are needed.
        """
        return tuple(
            convolution(level).contiguous(memory_format=torch.channels_last)
            for convolution, level in zip(self._convolutions, reversed(levels), strict=False)
        )

    def __call__(
        self, finer: Sequence[Tensor], encoded: Tensor, prompt: Tensor, prompt_mask: Tensor | None, queries: Tensor
    ) -> Tensor:
        """Masks of some queries of one prompt.

        Args:
            finer: From ``finer``.
            encoded: (1, g * g, C), the picture after it met the prompt.
            prompt: (1, n, C) prompt tokens.
            prompt_mask: (1, n) bool, False at padding; None where nothing is padded.
            queries: (k, C).

        Returns:
            (k, 4g, 4g) float32 logits.
        """
        decoder = self._decoder
        mask = None if prompt_mask is None else prompt_mask[:, None, None, :]
        attended, _ = decoder.prompt_cross_attn(
            query=decoder.prompt_cross_attn_norm(encoded), key=prompt, value=prompt, attention_mask=mask
        )
        grid = finer[0].shape[-1] // 2
        pixels = (encoded + attended).view(1, grid, grid, -1).permute(0, 3, 1, 2)
        for double, level, norm in zip(self._doublings, finer, self._norms, strict=False):
            pixels = norm(double(pixels).add_(level)).relu_()
        project = decoder.instance_projection
        embedded = decoder.mask_embedder(queries)
        by_pixel = pixels[0].permute(1, 2, 0).flatten(0, 1)
        logits: Tensor = (embedded @ project.weight[:, :, 0, 0]) @ by_pixel.T + (embedded @ project.bias)[:, None]
        return logits.view(-1, *pixels.shape[-2:]).float()
