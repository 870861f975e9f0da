"""Finding a checkpoint, whatever form it was published in, and opening it.

A name is ``demo`` (shipped with this package), a directory in transformers' layout, a ``.pt`` file in Meta's layout,
or a hub id, with or without a revision. Knows files and their faults; does not build networks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import CheckpointError
from sam3_backend.model.architecture import Architecture
from sam3_backend.model.published_layout import read_published
from sam3_backend.model.tokens import TextTokens
from sam3_backend.model.transformers_layout import read_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

DEMO = "demo"
DEMO_DIRECTORY = Path(str(resources.files("sam3_backend") / "demo"))
PUBLISHED_FILE = "sam3.pt"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)


@dataclass(frozen=True)
class Tuning:
    """What a checkpoint's own ``sam3_backend.json`` recommends; official behaviour where it says nothing.

    Attributes:
        default_threshold: Detections need a higher score than this, [0, 1].
        mask_nms_iou: Of two detections that overlap by more than this IoU the worse is dropped; None: keep both.
    """

    default_threshold: float = 0.5
    mask_nms_iou: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("default_threshold", self.default_threshold), ("mask_nms_iou", self.mask_nms_iou or 0)):
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{name} is {value!r} and must lie between 0 and 1")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        name: For people: "demo", a hub id with its revision if one was named, a directory's or file's name.
        architecture: Its dimensions.
        tensors: By the parameter names of ``Sam3Network``; views of memory-mapped files.
        tokens: Its tokenizer.
        tuning: Its recommendations.
        has_click_decoder: Whether it is meant to answer points and boxes; a detector alone is not.
    """

    name: str
    architecture: Architecture
    tensors: Mapping[str, Tensor]
    tokens: TextTokens
    tuning: Tuning
    has_click_decoder: bool


def open_checkpoint(checkpoint: str, *, hf_token: str | None = None, offline: bool = False) -> Checkpoint:
    """Find and open a checkpoint by its name.

    Args:
        checkpoint: "demo", a directory, a ``.pt`` file, or a hub id such as "facebook/sam3" or, at a commit,
            tag or branch, "facebook/sam3@<revision>".
        hf_token: Hugging Face token with access to it.
        offline: Never ask the hub; use what is already in its cache.

    Raises:
        CheckpointError: There is no such checkpoint, it cannot be had, or it is not a SAM 3.
    """
    if checkpoint == DEMO:
        return _open_directory(DEMO, DEMO_DIRECTORY)
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return _open_directory(path.resolve().name, path)
    if path.is_file():
        return _open_file(path)
    if _HUB_NAME.fullmatch(checkpoint) and not checkpoint.endswith((".pt", ".pth", ".safetensors")):
        from sam3_backend.model.hub import download  # huggingface_hub is slow to import and seldom needed

        return _open_directory(checkpoint, download(checkpoint, token=hf_token, offline=offline))
    raise CheckpointError(
        f"There is no checkpoint '{checkpoint}': no such directory or file, and it is not a hub id like "
        "'facebook/sam3' or 'facebook/sam3@<revision>'. Set MODEL_CHECKPOINT to one of these, or to 'demo'."
    )


def _open_directory(name: str, directory: Path) -> Checkpoint:
    published = directory / PUBLISHED_FILE
    if published.is_file() and not any(directory.glob("model*.safetensors*")):
        return _open_file(published)
    config = read_json(directory / "config.json", "A checkpoint directory needs it beside the weights.")
    tokenizer = directory / "tokenizer.json"
    tensors = read_directory(directory)
    return Checkpoint(
        name=name,
        architecture=Architecture.from_json(config),
        tensors=tensors,
        tokens=TextTokens.from_file(tokenizer) if tokenizer.is_file() else TextTokens.of_clip(),
        tuning=read_tuning(directory),
        has_click_decoder="tracker_config" in config or any(key.startswith("tracker_") for key in tensors),
    )


def _open_file(path: Path) -> Checkpoint:
    if path.suffix not in (".pt", ".pth"):
        raise CheckpointError(f"{path} is no checkpoint: name a sam3.pt, or the directory that holds the safetensors.")
    config, tokenizer = path.parent / "config.json", path.parent / "tokenizer.json"
    return Checkpoint(
        name=path.name,
        architecture=Architecture.from_json(read_json(config, "")) if config.is_file() else Architecture.published(),
        tensors=read_published(path),
        tokens=TextTokens.from_file(tokenizer) if tokenizer.is_file() else TextTokens.of_clip(),
        tuning=read_tuning(path.parent),
        has_click_decoder=True,
    )


def read_tuning(directory: Path) -> Tuning:
    """Recommendations in a checkpoint's directory; the official ones if there are none.

    Raises:
        CheckpointError: They cannot be used.
    """
    path = directory / "sam3_backend.json"
    if not path.is_file():
        return Tuning()
    try:
        return Tuning(**read_json(path, ""))
    except (TypeError, ValueError) as fault:
        raise CheckpointError(f"{path} recommends what cannot be: {fault}") from fault


def read_json(path: Path, why_needed: str) -> dict[str, Any]:
    """Content of a JSON object's file.

    Raises:
        CheckpointError: It is missing or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as fault:
        raise CheckpointError(f"{path} is missing. {why_needed}") from fault
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{path} cannot be read: {fault}") from fault
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not hold a JSON object.")
    return content
