"""Checkpoints as transformers saves them: a directory with safetensors under transformers' own names."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

from sam3_backend.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_VIDEO_ONLY = re.compile(
    r"tracker_model\.("
    r"memory_|mask_downsample|object_pointer_proj|temporal_positional_encoding_projection_layer|"
    r"no_memory_positional_encoding|no_object_pointer|occlusion_spatial_embedding_parameter)"
)
"""The tracker's memory, which single pictures never use."""

_RECOMPUTED = re.compile(r"\.(position_ids|inv_freq|original_inv_freq)$")
"""Buffers that old versions of transformers wrote and that follow from the configuration."""


def read_directory(directory: Path) -> dict[str, Tensor]:
    """Memory-map all weights of a directory.

    Args:
        directory: Holds ``model.safetensors``, or shards and ``model.safetensors.index.json``.

    Returns:
        Tensors by the parameter names of ``Sam3Network``.

    Raises:
        CheckpointError: There are none, or they cannot be read.
    """
    found: dict[str, Tensor] = {}
    for shard in weight_files(directory):
        try:
            found.update(load_file(shard))
        except (SafetensorError, OSError) as fault:
            raise CheckpointError(
                f"{shard} is damaged or incomplete ({fault}). Download it again and compare its size with the original."
            ) from fault
    return for_pictures(found)


def for_pictures(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A saved model's tensors under the network's names, without what is for video.

    Args:
        saved: By the names of a video model or of a detector.
    """
    named = {_network_name(name): tensor for name, tensor in saved.items()}
    return {name: tensor for name, tensor in named.items() if not (_VIDEO_ONLY.match(name) or _RECOMPUTED.search(name))}


def weight_files(directory: Path) -> list[Path]:
    """The files that hold a directory's weights.

    Raises:
        CheckpointError: There are none, or a shard is missing.
    """
    index, single = directory / "model.safetensors.index.json", directory / "model.safetensors"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(
            f"{directory} holds no model.safetensors: it is not a checkpoint in transformers' layout."
        )
    try:
        shards = sorted({directory / shard for shard in json.loads(index.read_text())["weight_map"].values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as fault:
        raise CheckpointError(f"{index} cannot be read as an index of weights: {fault}") from fault
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(f"{directory} lacks {', '.join(missing)}: download the whole checkpoint again.")
    return shards


def _network_name(name: str) -> str:
    # transformers 5.23 writes the prefix twice when it saves a video model.
    name = name.replace("tracker_model.tracker_model.", "tracker_model.")
    if name.startswith(("detector_model.", "tracker_model.", "tracker_neck.")):
        return name
    return f"detector_model.{name}"
