"""SAM 3 as one network: a vision backbone shared by two heads, wired as Meta's own code wires it.

transformers' modules do the work; this module decides what flows between them, because transformers' own wiring
differs from the official one in two places:

* the geometry encoder's CLS token is part of *every* concept prompt, also of one without boxes;
* the click decoder reads the coarsest feature level *plus* ``no_memory_embedding``.

In a third, the backbone's layer norms, ``Architecture`` corrects the configuration.

Tensors in, tensors out; batched over prompts. Knows neither pictures in pixels, nor text, nor thresholds. Parameter
names are those of a transformers ``facebook/sam3`` directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import Sam3Model, Sam3VisionNeck
from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextModel

from sam3_backend.model.click_head import ClickHead
from sam3_backend.model.mask_head import MaskHead
from sam3_backend.model.neck import pyramid
from sam3_backend.model.prompted_encoder import encode_prompted, first_look
from sam3_backend.model.query_decoder import decode_queries
from sam3_backend.model.tokens import MAX_TEXT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.model.architecture import Architecture


@dataclass(slots=True)
class PictureFeatures:
    """What the detector derives from one picture, the same for every prompt.

    Attributes:
        coarse: (1, C, g, g), the coarsest level of the feature pyramid, g the patch grid's side.
        positions: (1, g * g, C) float32 position encoding of it.
        looked: (1, g * g, C), the same level after its patches looked at each other.
        cls_token: (1, 1, C) float32, the geometry encoder's answer to "no boxes".
        draws_with: Makes ``finer``.
    """

    coarse: Tensor
    positions: Tensor
    looked: Tensor
    cls_token: Tensor
    draws_with: Callable[[], tuple[Tensor, ...]]
    _finer: tuple[Tensor, ...] | None = None

    @property
    def finer(self) -> tuple[Tensor, ...]:
        """The finer levels as masks are drawn with them; not made for a picture in which nothing is found."""
        if self._finer is None:  # two threads may both make them, and make the same
            self._finer = self.draws_with()
        return self._finer


@dataclass(frozen=True, slots=True)
class Candidates:
    """The detector's queries after decoding, for B prompts.

    Attributes:
        logits: (B, Q) float32, before the sigmoid.
        boxes_xyxy: (B, Q, 4) float32, fractions of the picture, not clipped.
        presence_logits: (B,) float32.
        queries: (B, Q, C) float32, what the mask embedder reads.
        encoded: (B, g * g, C), the picture's coarsest level after it met the prompt.
        prompts: (B, n, C) prompt tokens.
        prompt_mask: (B, n) bool, False at padding; None where nothing is padded.
    """

    logits: Tensor
    boxes_xyxy: Tensor
    presence_logits: Tensor
    queries: Tensor
    encoded: Tensor
    prompts: Tensor
    prompt_mask: Tensor | None


class Sam3Network(nn.Module):
    """One backbone, the detector for concepts, and the decoder for clicks.

    Args:
        architecture: Dimensions.
        has_click_head: False for checkpoints that hold a detector alone.
    """

    def __init__(self, architecture: Architecture, *, has_click_head: bool = True) -> None:
        super().__init__()
        self.architecture = architecture
        detector_class = Sam3LiteTextModel if architecture.has_lite_text else Sam3Model
        self.detector_model: Any = detector_class(architecture.detector)
        self.tracker_neck: Any = Sam3VisionNeck(architecture.detector.vision_config) if has_click_head else None
        self.tracker_model = ClickHead(architecture) if has_click_head else None

    @torch.inference_mode()
    def settle(self) -> None:
        """Derive from the parameters what every call needs; once, when they are loaded, and before any other call."""
        self._mask_head = MaskHead(self.detector_model.mask_decoder)
        self._levels = pyramid(self.detector_model.vision_encoder.neck)
        if self.tracker_model is not None:
            self.tracker_model.settle()
            self._click_levels = pyramid(self.tracker_neck, self.tracker_model.projections)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the backbone; some parts compute in float32 whatever this is."""
        dtype: torch.dtype = self.detector_model.text_projection.weight.dtype
        return dtype

    def encode(self, pixels: Tensor) -> Tensor:
        """The vision backbone.

        Args:
            pixels: (B, 3, S, S) normalised.

        Returns:
            (B, g * g, D).
        """
        hidden: Tensor = self.detector_model.vision_encoder.backbone(pixels.to(self.dtype)).last_hidden_state
        return hidden

    def picture_features(self, hidden: Tensor) -> PictureFeatures:
        """The detector's view of a picture.

        Args:
            hidden: (1, g * g, D) from ``encode``.
        """
        seen = self._grid_of(hidden)
        *finer, coarsest = self._levels
        coarse = coarsest(seen)
        encoding = self.detector_model.vision_encoder.neck.position_encoding(coarse.shape, coarse.device, torch.float32)
        positions = _as_tokens(encoding)
        looked = first_look(self.detector_model.detr_encoder, _as_tokens(coarse), positions.to(self.dtype))
        nothing = torch.zeros(1, 1, 4, device=coarse.device)
        is_real = torch.zeros(1, 1, dtype=torch.bool, device=coarse.device)
        # A padding box leaves the CLS token in front, and the padding behind it reaches nobody.
        cls_token = self._geometry(coarse, positions, nothing, is_real, is_real.long())[:, :1]
        return PictureFeatures(
            coarse, positions, looked, cls_token, lambda: self._mask_head.finer([level(seen) for level in finer])
        )

    def click_features(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The click decoder's view of a picture, finest first, in the backbone's precision.

        Args:
            hidden: (1, g * g, D) from ``encode``.

        Returns:
            (1, C / 8, 4g, 4g), (1, C / 4, 2g, 2g) and (1, C, g, g).
        """
        if self.tracker_model is None:
            raise RuntimeError("this network has no click head")
        seen = self._grid_of(hidden)
        fine, middle, coarse = (level(seen) for level in self._click_levels)
        coarse = self.tracker_model.without_memory(coarse).to(self.dtype)
        return fine.contiguous(), middle.contiguous(), coarse.contiguous()

    def text_features(self, token_ids: list[int]) -> Tensor:
        """The text tower.

        Args:
            token_ids: n ids, start and end token included.

        Returns:
            (1, n, C), nothing padded.
        """
        length = len(token_ids)
        if self.architecture.has_lite_text:  # its convolutions and stretched positions know one length only
            token_ids = token_ids + token_ids[-1:] * (MAX_TEXT_TOKENS - length)  # CLIP pads with the end token
        ids = torch.tensor([token_ids], device=self.detector_model.text_projection.weight.device)
        is_real = (torch.arange(ids.shape[1], device=ids.device) < length).long()[None]
        output = self.detector_model.get_text_features(input_ids=ids, attention_mask=is_real)
        features: Tensor = output.pooler_output
        return features[:, :length]

    def exemplar_tokens(self, features: PictureFeatures, boxes_cxcywh: Tensor, labels: Tensor) -> Tensor:
        """Prompt tokens of exemplar boxes, the CLS token last.

        Args:
            features: Of the picture.
            boxes_cxcywh: (1, n, 4) float32, fractions of the picture.
            labels: (1, n) int64, 1 for "like this", 0 for "not like this".

        Returns:
            (1, n + 1, C) float32.
        """
        is_real = torch.ones_like(labels, dtype=torch.bool)
        return self._geometry(features.coarse, features.positions, boxes_cxcywh, is_real, labels)

    def detect(self, features: PictureFeatures, prompts: Tensor, prompt_mask: Tensor | None = None) -> Candidates:
        """The detector's transformer, without masks.

        Args:
            features: Of the picture.
            prompts: (B, n, C) text and geometry tokens.
            prompt_mask: (B, n) bool, False at padding.
        """
        detector = self.detector_model
        prompts = prompts.to(self.dtype)
        encoded = encode_prompted(
            detector.detr_encoder,
            features.looked,
            positions=features.positions.to(self.dtype),
            prompts=prompts,
            prompt_mask=prompt_mask,
        )
        queries, boxes_xyxy, presence_logits = decode_queries(
            detector.detr_decoder,
            encoded=encoded.float(),
            positions=features.positions,
            prompts=prompts.float(),
            prompt_mask=prompt_mask,
            grid_size=self.architecture.grid_size,
        )
        logits = detector.dot_product_scoring(queries[None], prompts.float(), prompt_mask)[0, :, :, 0]
        return Candidates(logits, boxes_xyxy, presence_logits, queries, encoded, prompts, prompt_mask)

    def mask_logits(self, features: PictureFeatures, candidates: Candidates, prompt: int, chosen: Tensor) -> Tensor:
        """Masks of the chosen queries of one prompt.

        Args:
            features: Of the picture.
            candidates: From ``detect``.
            prompt: Which of the B prompts.
            chosen: (k,) int64 indices of queries.

        Returns:
            (k, 4g, 4g) float32 logits.
        """
        only = slice(prompt, prompt + 1)
        mask = None if candidates.prompt_mask is None else candidates.prompt_mask[only]
        queries = candidates.queries[prompt, chosen].to(self.dtype)
        return self._mask_head(features.finer, candidates.encoded[only], candidates.prompts[only], mask, queries)

    def _grid_of(self, hidden: Tensor) -> Tensor:
        """(B, g * g, D) to (B, D, g, g)."""
        grid = self.architecture.grid_size
        return hidden.view(hidden.shape[0], grid, grid, -1).permute(0, 3, 1, 2)

    def _geometry(self, coarse: Tensor, positions: Tensor, boxes: Tensor, is_real: Tensor, labels: Tensor) -> Tensor:
        tokens: Tensor = self.detector_model.geometry_encoder(
            box_embeddings=boxes,
            box_mask=is_real,
            box_labels=labels,
            img_feats=(coarse.float(),),
            img_pos_embeds=(positions.transpose(1, 2).reshape(coarse.shape),),
        ).last_hidden_state
        return tokens


def _as_tokens(level: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h * w, C)."""
    return level.flatten(2).transpose(1, 2)
