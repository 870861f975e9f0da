"""The head for points and boxes: transformers' SAM 3 tracker modules without their own vision encoder.

Computes in float32. Coordinates are pixels of the model's square input frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.sam3_tracker.modeling_sam3_tracker import (
    Sam3TrackerMaskDecoder,
    Sam3TrackerPositionalEmbedding,
    Sam3TrackerPromptEncoder,
)

from sam3_backend.model.click_decoder import ClickDecoder, PromptTokens
from sam3_backend.model.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_backend.model.architecture import Architecture
    from sam3_backend.model.recorded import Function


class _Kind(NamedTuple):
    """What decides, with the number of tensors, which operations answer clicks.

    Attributes:
        pictures: How many there are.
        multimask: Whether three masks are asked for.
    """

    pictures: int
    multimask: bool


class ClickHead(nn.Module):
    """Prompt encoder and mask decoder over click features.

    Args:
        architecture: Dimensions.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.prompt_encoder.hidden_size
        self.shared_image_embedding: Any = Sam3TrackerPositionalEmbedding(architecture.prompt_encoder)
        self.prompt_encoder: Any = Sam3TrackerPromptEncoder(architecture.prompt_encoder)
        self.mask_decoder: Any = Sam3TrackerMaskDecoder(architecture.click_decoder)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self._grid_size = architecture.grid_size
        self._frame_px = architecture.input_size_px

    def settle(self) -> None:
        """Derive from the parameters what every call needs; once, when they are loaded."""
        self._prompt_tokens = PromptTokens(self.prompt_encoder, self._frame_px)
        self._decode = ClickDecoder(self.mask_decoder, self._positions(), self._prompt_tokens.end)
        is_on_cpu = self.no_memory_embedding.device.type == "cpu"
        self._pass: Function = Recorded(self._one_pass) if is_on_cpu else self._one_pass

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
        self, features: Sequence[Sequence[Tensor]], prompts: Sequence[Sequence[Tensor]], *, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Masks of one object in each of B pictures.

        Args:
            features: Of each picture, finest first, any float dtype: (1, C / 8, 4g, 4g), (1, C / 4, 2g, 2g) and
                (1, C, g, g).
            prompts: About each picture: marks, (1, p, 2) float32 XY in the input frame, points and corners of a box;
                their kinds, (1, p) int64, a point beside the object 0, one on it 1, a box's top left corner 2, its
                other one 3; and (1, 4g, 4g) float32 logits to refine, if there are any.
            multimask: Three masks per object instead of one.

        Returns:
            Mask logits (B, m, 4g, 4g) and predicted IoU (B, m), float32, on the CPU.
        """
        kind = _Kind(len(features), multimask)
        parts = (*zip(*prompts, strict=True), *zip(*features, strict=True))
        masks, iou_scores = self._pass(kind, *[each for same in parts for each in same])
        return masks, iou_scores

    def _one_pass(self, kind: _Kind, *parts: Tensor) -> tuple[Tensor, ...]:
        """One part of all pictures behind the other, in the order of ``forward``."""
        starts = range(0, len(parts), kind.pictures)
        device = self.no_memory_embedding.device
        together = [_joined(parts[start : start + kind.pictures]) for start in starts]
        marks, kinds, *refined, fine, middle, coarse = [each.to(device) for each in together]
        encoder = self.prompt_encoder
        dense = encoder.mask_embed(refined[0][:, None]) if refined else encoder.no_mask_embed.weight[..., None, None]
        features = [each.float() for each in (fine, middle, coarse)]
        masks, iou_scores = self._decode(features, self._prompt_tokens(marks, kinds), dense, multimask=kind.multimask)
        return masks.cpu(), iou_scores.cpu()

    def _positions(self) -> Tensor:
        """(g * g, C) position encoding of the patch centres."""
        steps = (torch.arange(self._grid_size, device=self.no_memory_embedding.device) + 0.5) / self._grid_size
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
        encoded: Tensor = self.shared_image_embedding(grid)
        return encoded.flatten(0, 1)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
