"""How large the demo model is, and what transformers' configurations say of that.

Pure numbers: knows neither weights nor files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    grid: int = 32
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


def sizes_of(arguments: Mapping[str, Any]) -> Sizes:
    """Sizes from (some of) their fields, as stored in a training state."""
    known = asdict(Sizes()) | dict(arguments)
    return Sizes(**{**known, "global_layers": tuple(known["global_layers"])})


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
