"""The decoder for points and boxes: transformers' SAM 3 tracker modules without their own vision encoder.

Computes in float32. Coordinates are pixels of the model's square input frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.models.sam3_tracker.modeling_sam3_tracker import (
    Sam3TrackerMaskDecoder,
    Sam3TrackerPositionalEmbedding,
    Sam3TrackerPromptEncoder,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_backend.model.architecture import Architecture


class ClickHead(nn.Module):
    """Prompt encoder and mask decoder over click features.

    Args:
        architecture: Dimensions.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.prompt_encoder.hidden_size
        architecture.click_decoder._attn_implementation = "sdpa"  # noqa: SLF001  transformers sets it the same way
        self.shared_image_embedding: Any = Sam3TrackerPositionalEmbedding(architecture.prompt_encoder)
        self.prompt_encoder: Any = Sam3TrackerPromptEncoder(architecture.prompt_encoder)
        self.mask_decoder: Any = Sam3TrackerMaskDecoder(architecture.click_decoder)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, width))

    @property
    def projections(self) -> tuple[Any, Any]:
        """The 1 x 1 convolutions in front of the decoder, for the neck's finest level and the one below it."""
        return self.mask_decoder.conv_s0, self.mask_decoder.conv_s1

    def without_memory(self, coarse: Tensor) -> Tensor:
        """The coarsest level as the decoder wants it of a single picture, in float32.

        A single picture is a video's first frame: no memory, and the official code says so to the decoder by an
        embedding on the coarsest level.

        Args:
            coarse: (B, C, g, g).
        """
        return coarse.float() + self.no_memory_embedding.view(1, -1, 1, 1)

    def forward(
        self,
        features: Sequence[Tensor],
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask_logits: Tensor | None,
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Masks for n objects of one picture.

        Args:
            features: From ``project``, finest first, any float dtype.
            points: (1, n, p, 2) float32 XY in the input frame.
            labels: (1, n, p) int64, 1 on the object, 0 beside it.
            boxes: (1, n, 4) float32 xyxy in the input frame.
            mask_logits: (1, 1, 4g, 4g) float32 logits to refine.
            multimask: Three masks per object instead of one.

        Returns:
            Mask logits (n, m, 4g, 4g) and predicted IoU (n, m), float32.
        """
        sparse, dense = self.prompt_encoder(points, labels, boxes, mask_logits)
        fine, middle, coarse = (feature.float() for feature in features)
        masks, iou_scores, _, _ = self.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=self._positions(coarse),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=[fine, middle],
        )
        return masks[0], iou_scores[0]

    def _positions(self, coarse: Tensor) -> Tensor:
        """(1, C, g, g) position encoding of the patch centres."""
        height, width = coarse.shape[-2:]
        y = (torch.arange(height, device=coarse.device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=coarse.device, dtype=torch.float32) + 0.5) / width
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        encoded: Tensor = self.shared_image_embedding(grid)
        return encoded.permute(2, 0, 1)[None]
