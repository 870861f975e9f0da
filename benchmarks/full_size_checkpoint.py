"""A random checkpoint of the published dimensions, in the published layouts.

The scales keep activations alive, so that scores and masks vary as with real weights; the numbers mean nothing.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from transformers import CLIPTokenizer, Sam3ImageProcessor, Sam3Processor

from sam3_backend.model.architecture import Architecture
from sam3_backend.model.key_mapping import is_unused, network_name, to_network_names
from sam3_backend.model.network import Sam3Network
from sam3_backend.model.tokens import clip_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISHED_NAMES = Path(__file__).parent.parent / "tests" / "model" / "reference" / "keys.tsv"
LAYERS = {"trunk.blocks": 32, "transformer.resblocks": 24}


@contextmanager
def folder_for(scratch: Path | None) -> Iterator[Path]:
    """The folder to keep a checkpoint in, or a temporary one that goes away."""
    if scratch:
        yield scratch
        return
    with tempfile.TemporaryDirectory(prefix="full-size-") as folder:
        yield Path(folder)


def write_both_layouts(directory: Path) -> None:
    """Write ``sam3.pt`` in Meta's layout and the same weights as a transformers directory; keep what is there.

    Args:
        directory: Made where it does not exist; takes 7 GB.
    """
    published, unfinished = directory / "sam3.pt", directory / "sam3.pt.part"
    if not published.exists():
        directory.mkdir(parents=True, exist_ok=True)
        torch.save(_published_tensors(), unfinished)
        unfinished.rename(published)
    write_transformers_layout(directory)


def write_transformers_layout(directory: Path) -> None:
    """Write a transformers directory; keep what is there.

    Args:
        directory: Made where it does not exist; takes 3.5 GB.
    """
    if (directory / "processor_config.json").exists():  # written last
        return
    directory.mkdir(parents=True, exist_ok=True)
    ours = {name: tensor.contiguous().clone() for name, tensor in to_network_names(_published_tensors()).items()}
    save_file(ours, directory / "model.safetensors", metadata={"format": "pt"})
    architecture = Architecture.published()
    parts = {"prompt_encoder_config": architecture.prompt_encoder, "mask_decoder_config": architecture.click_decoder}
    tracker = {name: config.to_dict() for name, config in parts.items()}
    config = {"model_type": "sam3_video", "detector_config": architecture.detector.to_dict(), "tracker_config": tracker}
    (directory / "config.json").write_text(json.dumps(config, default=str))
    vocabulary, merges = clip_vocabulary()
    Sam3Processor(Sam3ImageProcessor(), CLIPTokenizer(vocab=vocabulary, merges=merges)).save_pretrained(directory)


def _published_tensors() -> dict[str, torch.Tensor]:
    """Random tensors under Meta's names, without those that are for video."""
    with torch.device("meta"):
        network = Sam3Network(Architecture.published())
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {name: _random(name, _published_shape(name, shapes), generator) for name in _published_names()}


def _published_names() -> list[str]:
    """The small reference's names, its first layers repeated to the published depth."""
    names: dict[str, None] = {}
    for line in PUBLISHED_NAMES.read_text().splitlines():
        name = line.split("\t")[0]
        depth = next((count for stack, count in LAYERS.items() if f".{stack}." in name), None)
        for layer in range(depth or 1):
            names[re.sub(r"(blocks)\.\d+\.", rf"\1.{layer}.", name) if depth else name] = None
    return [name for name in names if not is_unused(name)]


def _published_shape(name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """A tensor's shape in Meta's layout: stacked, transposed or longer than in the network."""
    ours = network_name(name)
    stacked = re.search(r"(?:\.qkv\.|\.in_proj_)(weight|bias)$", ours)
    if stacked:
        shape = shapes[f"{ours[: stacked.start()]}.q_proj.{stacked[1]}"]
        return (3 * shape[0], *shape[1:])
    if "point_embeddings." in ours:
        return (1, shapes["tracker_model.prompt_encoder.point_embed.weight"][1])
    if ours.endswith("text_encoder.text_projection.weight"):
        return shapes[ours][::-1]
    if ours.endswith("embeddings.position_embeddings"):
        return (1, shapes[ours][1] + 1, shapes[ours][2])
    return shapes[ours]


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(shape, generator=generator)
    if name.endswith("weight") and len(shape) == 1:
        return 1 + 0.1 * values
    if name.endswith("bias"):
        return 0.05 * values
    if "embed" in name or "token" in name or len(shape) < 2:
        return 0.5 * values
    fan_in = math.prod(shape[1:])
    return values * ((0.35 if "proj" in name or "fc2" in name or "linear2" in name else 1) / math.sqrt(fan_in))
