"""The demo model: a tiny SAM 3 of transformers' own classes, and its start.

Knows modules and initial weights. The forward passes are in `wiring`, the dimensions in `sizes`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Sam3Config, Sam3Model, Sam3TrackerConfig, Sam3TrackerModel

from training.geometry_start import start_geometry_encoder
from training.sizes import Sizes, detector_config, tracker_config
from training.vocabulary import COLOURS, SHAPES


class Network(nn.Module):
    """Detector and click head over one image encoder, and three linear heads used in training alone.

    Attributes:
        detector: text and exemplar prompts.
        tracker: clicks and boxes; its image encoder is the detector's.
        token_head: reads each image token's shape, colour, box and mask off the encoder.
        kind_head: reads each token's shape and colour off the detector's coarse features.
        concept_head: reads "is what was asked for here?" off the fused image tokens.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.detector = Sam3Model(Sam3Config(**detector_config(sizes)))
        self.tracker = Sam3TrackerModel(Sam3TrackerConfig(**tracker_config(sizes)))
        self.tracker.vision_encoder.backbone = self.detector.vision_encoder.backbone
        kinds = len(SHAPES) + 1 + len(COLOURS) + 1
        self.token_head = nn.Sequential(nn.LayerNorm(sizes.vit_width), nn.Linear(sizes.vit_width, kinds + 4 + 16))
        self.kind_head = nn.Sequential(nn.LayerNorm(sizes.width), nn.Linear(sizes.width, kinds))
        self.concept_head = nn.Linear(sizes.width, 1)
        self._start()
        for neck in (self.detector.vision_encoder.neck, self.tracker.vision_encoder.neck):
            neck.fpn_layers[3].requires_grad_(requires_grad=False)

    @torch.no_grad()
    def _start(self) -> None:
        """Initial weights: small widths want larger ones than transformers' N(0, 0.02)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in self.detector.vision_encoder.backbone.layers:
            layer.attention.o_proj.weight.mul_(0.5)
            layer.mlp.fc2.weight.mul_(0.5)
        decoder, prompts, masks = self.detector.detr_decoder, self.tracker.prompt_encoder, self.tracker.mask_decoder
        start_geometry_encoder(self.detector.geometry_encoder)
        nn.init.zeros_(decoder.box_head.layer3.weight)
        start = torch.cat([grid_centres(self.sizes.queries), torch.full((self.sizes.queries, 2), 0.16)], 1)
        decoder.reference_points.weight.copy_(torch.logit(start))
        for embedding in (decoder.query_embed, decoder.presence_token):
            nn.init.normal_(embedding.weight, std=0.5)
        tokens = self.detector.text_encoder.text_model.embeddings.token_embedding
        learned = (prompts.point_embed, prompts.not_a_point_embed, masks.iou_token, masks.mask_tokens)
        for embedding in (tokens, *learned, masks.obj_score_token):
            nn.init.normal_(embedding.weight, std=0.3)
        prompts.shared_embedding.positional_embedding.normal_()
        self.tracker.shared_image_embedding.positional_embedding.copy_(prompts.shared_embedding.positional_embedding)

    @torch.no_grad()
    def whiten_patches(self, pixels: Tensor) -> None:
        """Starts the patch embedding as a rotated, partly whitened PCA of real patches.

        Args:
            pixels: float [N, 3, S, S] in [-1, 1].
        """
        embeddings = self.detector.vision_encoder.backbone.embeddings
        patch, width = self.sizes.patch, self.sizes.vit_width
        rows = (
            functional.unfold(pixels.contiguous(), patch, stride=patch).transpose(1, 2).reshape(-1, 3 * patch * patch)
        )
        variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
        variances, directions = variances.flip(0)[:width], directions.flip(1)[:, :width]
        whitened = directions / (variances + 1e-3 * variances[0]).sqrt()
        rotation = torch.linalg.qr(torch.randn(whitened.shape[1], width).T)[0].T
        kernel = (whitened @ rotation).T.reshape(width, 3, patch, patch)
        embeddings.patch_embeddings.projection.weight.copy_(kernel)
        # A constant offset: the LayerNorm that follows must not erase brightness.
        embeddings.position_embeddings.normal_(std=0.02).add_(torch.randn(width) * 0.7)


def grid_centres(count: int) -> Tensor:
    """Centres (x, y) of a square grid of `count` cells over the unit square: float [count, 2], row by row."""
    side = math.isqrt(count)
    ticks = (torch.arange(side) + 0.5) / side
    return torch.stack([ticks.repeat(side), ticks.repeat_interleave(side)], 1)
