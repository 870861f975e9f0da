"""What a checkpoint is, for a person who wonders: kind, hashes, dimensions, heads. Builds nothing, fetches nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_backend.errors import CheckpointError
from sam3_backend.model.checkpoint import DEMO, DEMO_DIRECTORY, PUBLISHED_FILE, open_checkpoint
from sam3_backend.model.transformers_layout import weight_files
from sam3_backend.model.weights import require_fit_of

if TYPE_CHECKING:
    from sam3_backend.model.checkpoint import Checkpoint

PUBLISHED_SHA256 = "9999e2341ceef5e136daa386eecb55cb414446a00ac2b55eb2dfd2f7c3cf8c9e"
"""Of the ``sam3.pt`` in Meta's ``facebook/sam3``."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of weights.

    Attributes:
        path: Where it is.
        size_bytes: Its size.
        sha256: Of its content, hex.
    """

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint that would load.

    Attributes:
        name: "demo", or the directory's or file's name.
        kind: "transformers directory" or "sam3.pt".
        files: Its files of weights.
        is_published: Whether it is, byte for byte, the ``sam3.pt`` that Meta published.
        heads: "concepts" (text, exemplars) and, where it has one, "clicks" (points, boxes).
        text_tower: "CLIP" or "LiteText".
        parameters: How many numbers it holds for the network.
        dtypes: Precisions they are stored in, most frequent first.
        input_size_px: Side of the square that the network reads.
        low_res_size_px: Side of the square that mask logits come in.
        layers: Of the vision backbone.
        width: Of the vision backbone.
    """

    name: str
    kind: str
    files: tuple[WeightFile, ...]
    is_published: bool
    heads: tuple[str, ...]
    text_tower: str
    parameters: int
    dtypes: tuple[str, ...]
    input_size_px: int
    low_res_size_px: int
    layers: int
    width: int


def describe_checkpoint(checkpoint: str) -> CheckpointInfo:
    """Say what a checkpoint on this machine is.

    Reads every byte once, for the hash: seconds for the published file.

    Args:
        checkpoint: "demo", a directory, or a ``sam3.pt``.

    Raises:
        CheckpointError: There is none, or it would not load; the message says why.
    """
    path = DEMO_DIRECTORY if checkpoint == DEMO else Path(checkpoint).expanduser()
    if not path.exists():
        raise CheckpointError(f"There is no directory or file '{checkpoint}' on this machine.")
    opened = open_checkpoint(checkpoint)
    require_fit_of(opened)
    is_file = path.is_file() or opened.name == PUBLISHED_FILE
    weights = [path if path.is_file() else path / PUBLISHED_FILE] if is_file else weight_files(path)
    files = tuple(WeightFile(each, each.stat().st_size, _sha256(each)) for each in weights)
    backbone = opened.architecture.detector.vision_config.backbone_config
    return CheckpointInfo(
        name=opened.name,
        kind="sam3.pt" if is_file else "transformers directory",
        files=files,
        is_published=files[0].sha256 == PUBLISHED_SHA256,
        heads=("concepts", "clicks") if opened.has_click_decoder else ("concepts",),
        text_tower="LiteText" if opened.architecture.has_lite_text else "CLIP",
        parameters=sum(tensor.numel() for tensor in opened.tensors.values()),
        dtypes=_dtypes(opened),
        input_size_px=opened.architecture.input_size_px,
        low_res_size_px=opened.architecture.low_res_size_px,
        layers=int(backbone.num_hidden_layers),
        width=int(backbone.hidden_size),
    )


def _dtypes(checkpoint: Checkpoint) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for tensor in checkpoint.tensors.values():
        name = str(tensor.dtype).removeprefix("torch.")
        counts[name] = counts.get(name, 0) + tensor.numel()
    return tuple(sorted(counts, key=lambda name: -counts[name]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
