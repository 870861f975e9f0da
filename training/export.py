"""The network as a checkpoint directory in `facebook/sam3`'s layout.

Knows tensor names and files. The tokenizer saves itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from training.sizes import detector_config, tracker_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from training.network import Network


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
