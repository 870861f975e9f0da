"""The demo model: a tiny SAM 3 of transformers' own classes, its start and its export.

Knows sizes, initial weights and the checkpoint's file layout. The forward passes are in `wiring`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Sam3Config, Sam3Model, Sam3TrackerConfig, Sam3TrackerModel

from training.geometry_start import start_geometry_encoder
from training.vocabulary import COLOURS, SHAPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Sizes:
    """How large everything is; the defaults are the shipped checkpoint's.

    Attributes:
        grid: image tokens per side. Masks come out at 4 * grid.
        patch: pixels per token and side.
        vit_width, vit_layers, vit_heads: the image encoder.
        window: side of the attention windows in tokens; the picture spans as many RoPE units in global layers.
        global_layers: encoder layers that attend to the whole picture.
        width: of FPN, detector, geometry encoder and click decoder; divisible by 8.
        encoder_layers, decoder_layers: of the detector.
        queries: objects at most, a square number: each starts as one cell of a grid.
        vocabulary: tokens.
    """

    grid: int = 24
    patch: int = 16
    vit_width: int = 128
    vit_layers: int = 5
    vit_heads: int = 4
    window: int = 16
    global_layers: tuple[int, ...] = (0, 1, 2, 3, 4)
    width: int = 64
    encoder_layers: int = 2
    decoder_layers: int = 3
    queries: int = 16
    vocabulary: int = 1420

    @property
    def image_px(self) -> int:
        """Side of the square picture the encoder sees, in pixels."""
        return self.grid * self.patch

    @property
    def low_res(self) -> int:
        """Side of the mask logits."""
        return 4 * self.grid


def _vision_config(sizes: Sizes) -> dict[str, Any]:
    grid = sizes.grid
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": sizes.vit_width,
        "intermediate_size": 3 * sizes.vit_width,
        "num_hidden_layers": sizes.vit_layers,
        "num_attention_heads": sizes.vit_heads,
        "image_size": sizes.image_px,
        "patch_size": sizes.patch,
        "pretrain_image_size": sizes.image_px,
        "window_size": sizes.window,
        "global_attn_indexes": list(sizes.global_layers),
        "layer_norm_eps": 1e-5,  # as the package computes, and as Meta does; transformers would take 1e-6
    }
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": sizes.width,
        "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
        "scale_factors": [4.0, 2.0, 1.0, 0.5],
    }


def detector_config(sizes: Sizes) -> dict[str, Any]:
    """Arguments of `Sam3Config`."""
    width = sizes.width
    shared = {"hidden_size": width, "intermediate_size": 4 * width, "dropout": 0.0}
    text = {
        "model_type": "clip_text_model",
        "vocab_size": sizes.vocabulary,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "projection_dim": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "hidden_act": "gelu",
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    decoder = {"num_layers": sizes.decoder_layers, "num_queries": sizes.queries, "num_attention_heads": 4, **shared}
    return {
        "vision_config": _vision_config(sizes),
        "text_config": text,
        "geometry_encoder_config": {"num_layers": 1, "num_attention_heads": 4, **shared},
        "detr_encoder_config": {"num_layers": sizes.encoder_layers, "num_attention_heads": 2, **shared},
        "detr_decoder_config": decoder,
        "mask_decoder_config": {"hidden_size": width, "num_upsampling_stages": 2, "num_attention_heads": 4},
    }


def tracker_config(sizes: Sizes) -> dict[str, Any]:
    """Arguments of `Sam3TrackerConfig`."""
    width = sizes.width
    return {
        "vision_config": _vision_config(sizes),
        "prompt_encoder_config": {"hidden_size": width, "image_size": sizes.image_px, "patch_size": sizes.patch},
        "mask_decoder_config": {
            "hidden_size": width,
            "mlp_dim": 4 * width,
            "num_attention_heads": 4,
            "attention_downsample_rate": 1,
            "iou_head_hidden_dim": width,
        },
    }


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


def exported_tensors(network: Network) -> Mapping[str, Tensor]:
    """The network's tensors under the names of the released checkpoint (training heads left out)."""
    named = {f"detector_model.{name}": value for name, value in network.detector.state_dict().items()}
    for name, value in network.tracker.state_dict().items():
        if name.startswith("vision_encoder.neck."):
            named["tracker_neck." + name.removeprefix("vision_encoder.neck.")] = value
        elif not name.startswith("vision_encoder.backbone."):
            named[f"tracker_model.{name}"] = value
    return named


def export(network: Network, directory: Path) -> None:
    """Writes config, processor files and fp16 weights in `facebook/sam3`'s layout (the tokenizer saves itself).

    `"dtype": "float32"` in the configuration makes the fp16 file load as fp32.
    """
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    halves = {
        k: (v.half() if v.is_floating_point() else v).contiguous().clone() for k, v in exported_tensors(network).items()
    }
    scratch = directory / "model.safetensors.tmp"
    save_file(halves, scratch, metadata={"format": "pt"})
    scratch.chmod(0o644)
    scratch.replace(directory / "model.safetensors")
    sizes = network.sizes
    detector = {**detector_config(sizes), "model_type": "sam3", "dtype": "float32"}
    tracker = {
        **tracker_config(sizes),
        "model_type": "sam3_tracker_video",
        "image_size": sizes.image_px,
        "dtype": "float32",
    }
    config = {
        "model_type": "sam3_video",
        "architectures": ["Sam3VideoModel"],
        "detector_config": detector,
        "tracker_config": tracker,
        "low_res_mask_size": sizes.low_res,
        "dtype": "float32",
    }
    processor = {
        "image_processor_type": "Sam3ImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"height": sizes.image_px, "width": sizes.image_px},
        "mask_size": {"height": sizes.low_res, "width": sizes.low_res},
    }
    both = {
        "processor_class": "Sam3Processor",
        "target_size": sizes.image_px,
        "point_pad_value": -10,
        "image_processor": processor,
    }
    for name, content in (("config", config), ("preprocessor_config", processor), ("processor_config", both)):
        (directory / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (directory / "sam3_backend.json").write_text(json.dumps({"mask_nms_iou": 0.6}) + "\n")


def sizes_of(arguments: Mapping[str, Any]) -> Sizes:
    """Sizes from (some of) their fields, as stored in a training state."""
    known = asdict(Sizes()) | dict(arguments)
    return Sizes(**{**known, "global_layers": tuple(known["global_layers"])})
