"""The dimensions of a SAM 3: what a checkpoint's ``config.json`` says, or the published ones.

Turns JSON into transformers' configuration objects and knows which parts of the network compute in which precision.
Does not know weights or files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from transformers import Sam3Config, Sam3LiteTextConfig, Sam3TrackerConfig

from sam3_backend.errors import CheckpointError

FLOAT32_PARTS = (
    "detector_model.geometry_encoder.",
    "detector_model.detr_decoder.",
    "detector_model.dot_product_scoring.",
    "tracker_model.",
)
"""Parameters under these prefixes stay float32 whatever the predictor's dtype: boxes, scores and clicks need the
precision, and together they are a hundredth of the work of one picture."""

VISION_NORM_EPS = 1e-5
"""Of the layer norms in Meta's vision backbone (``norm_layer="LayerNorm"`` in its ``model_builder.py``, made with this
in ``vitdet.py``). Configurations that transformers writes say 1e-6, also for the very same weights: mask logits are off
by up to 3e-4 with it, and by 2e-5 without."""


@dataclass(frozen=True)
class Architecture:
    """Dimensions of both heads and the backbone they share.

    The backbone normalises with ``VISION_NORM_EPS`` whatever a ``config.json`` says.

    Attributes:
        detector: transformers' ``Sam3Config`` or ``Sam3LiteTextConfig``.
        prompt_encoder: transformers' ``Sam3TrackerPromptEncoderConfig``.
        click_decoder: transformers' ``Sam3TrackerMaskDecoderConfig``.
    """

    detector: Any
    prompt_encoder: Any
    click_decoder: Any

    @property
    def input_size_px(self) -> int:
        """Side of the square the picture is resized to."""
        return int(self.detector.vision_config.backbone_config.image_size)

    @property
    def grid_size(self) -> int:
        """Patches along one side."""
        return self.input_size_px // int(self.detector.vision_config.backbone_config.patch_size)

    @property
    def low_res_size_px(self) -> int:
        """Side of the square mask logits come in: four times the patch grid."""
        return 4 * self.grid_size

    @property
    def has_lite_text(self) -> bool:
        """Whether the text tower is the small one of ``Sam3LiteText``."""
        return isinstance(self.detector, Sam3LiteTextConfig)

    def to_json(self) -> str:
        """The dimensions as text: the same for the same dimensions, whichever version of transformers wrote them."""
        parts = (self.detector, self.prompt_encoder, self.click_decoder)
        return json.dumps([_bare(part.to_dict()) for part in parts], sort_keys=True, default=str)

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> Architecture:
        """Dimensions as a ``config.json`` states them.

        Args:
            config: Content of the file: a whole model's (``detector_config`` and ``tracker_config``), or a detector's.

        Raises:
            CheckpointError: The file describes another kind of model, or dimensions that cannot be.
        """
        detector = config.get("detector_config", config)
        tracker = config.get("tracker_config") or {}
        kind = detector.get("model_type", "sam3")
        if kind not in ("sam3", "sam3_lite_text"):
            raise CheckpointError(
                f"Its config.json describes a '{kind}' model. SAM 3 image checkpoints have the model type "
                "'sam3_video', 'sam3' or 'sam3_lite_text': name a directory of one of these."
            )
        detector_class = Sam3Config if kind == "sam3" else Sam3LiteTextConfig
        try:
            return cls._complete(detector_class(**_without_type(detector)), tracker)
        except Exception as fault:  # a strict dataclass raises many kinds of error for one wrong value
            raise CheckpointError(
                f"Its config.json does not describe a SAM 3 that can be built: {one_line(fault)}"
            ) from fault

    @classmethod
    def published(cls) -> Architecture:
        """Dimensions of the published SAM 3 (848 M parameters)."""
        return cls._complete(Sam3Config(), {})

    @classmethod
    def _complete(cls, detector: Any, tracker: dict[str, Any]) -> Architecture:
        vision = detector.vision_config
        vision.backbone_config.layer_norm_eps = VISION_NORM_EPS
        frame = {"image_size": vision.backbone_config.image_size, "patch_size": vision.backbone_config.patch_size}
        width = {"hidden_size": vision.fpn_hidden_size}
        clicks = Sam3TrackerConfig(
            prompt_encoder_config={**frame, **width, **_without_type(tracker.get("prompt_encoder_config") or {})},
            mask_decoder_config={**width, **_without_type(tracker.get("mask_decoder_config") or {})},
        )
        architecture = cls(detector, clicks.prompt_encoder_config, clicks.mask_decoder_config)
        if architecture.prompt_encoder.image_size != architecture.input_size_px:
            raise CheckpointError(
                f"The detector reads {architecture.input_size_px} px pictures and the click decoder "
                f"{architecture.prompt_encoder.image_size} px ones: one backbone cannot serve both."
            )
        return architecture


def one_line(fault: Exception) -> str:
    """A library's complaint as part of a sentence."""
    return " ".join(str(fault).split())


_NOT_DIMENSIONS = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")


def _bare(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {name: _bare(value) for name, value in config.items() if name not in _NOT_DIMENSIONS}


def _without_type(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ("model_type", "transformers_version")}
