"""Checkpoints as Meta publishes them: one ``sam3.pt`` of tensors under Meta's names.

The file is memory-mapped and read without executing anything in it. SAM 3.1 files are recognised and refused.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sam3_backend.errors import CheckpointError
from sam3_backend.model.key_mapping import to_network_names

if TYPE_CHECKING:
    from pathlib import Path

_ZIP_MAGIC = b"PK\x03\x04"
_AGAIN = "Download it again and compare its size with the original."


def read_published(path: Path) -> dict[str, Tensor]:
    """Memory-map a ``sam3.pt``.

    Args:
        path: The file; a plain dictionary of tensors, or one under the key "model".

    Returns:
        Tensors by the parameter names of ``Sam3Network``.

    Raises:
        CheckpointError: It is damaged, holds more than tensors, or is no SAM 3.
    """
    content = _read(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise CheckpointError(f"{path} does not hold a dictionary of tensors: it is not a sam3.pt.")
    if any(name.startswith("tracker.model.") or ".interactive_" in name for name in content):
        raise CheckpointError(
            f"{path} is a SAM 3.1 checkpoint. Its click decoder is built differently and is not supported: use the "
            "sam3.pt or the directory of facebook/sam3."
        )
    if not any(name.startswith("detector.") for name in content):
        some = ", ".join(list(content)[:3]) or "nothing"
        raise CheckpointError(f"{path} holds another model ({some}, ...), not a SAM 3 with 'detector.' and 'tracker.'.")
    return to_network_names(content)


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            magic = file.read(len(_ZIP_MAGIC))
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {fault}") from fault
    if magic != _ZIP_MAGIC:
        raise CheckpointError(
            f"{path} is not a file that torch.save writes. Name the published sam3.pt; an old-style pickle is refused "
            "because reading it could execute code."
        )
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as fault:
        raise CheckpointError(
            f"{path} holds more than tensors, possibly code, and was not read. Use the published file."
        ) from fault
    except Exception as fault:  # one wrong byte makes torch raise many kinds of error
        raise CheckpointError(f"{path} is damaged or incomplete. {_AGAIN}") from fault
