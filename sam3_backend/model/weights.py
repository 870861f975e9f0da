"""Putting tensors from a file into a network, once, without ever holding two copies.

Files are memory-mapped and the network is built on the meta device, so that a tensor exists only after it is read,
and is converted on its way; what was read of the file then leaves memory. Anything missing or left over is an error
that names it.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sam3_backend.errors import CheckpointError
from sam3_backend.model.architecture import FLOAT32_PARTS, one_line
from sam3_backend.model.network import Sam3Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sam3_backend.model.checkpoint import Checkpoint

_PROBE_BYTES = 1024
_NAMES_SHOWN = 5


def build(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> Sam3Network:
    """A network ready for inference.

    Args:
        checkpoint: Its tensors may be views of a memory-mapped file.
        device: Where it computes.
        dtype: Precision of the large parts; see ``FLOAT32_PARTS`` for the others.

    Raises:
        CheckpointError: A tensor is missing, unexpected, or has another shape than the architecture says.
    """
    network = require_fit_of(checkpoint)
    files = _mapped_files()

    def placed(name: str, tensor: Tensor) -> Tensor:
        precise = torch.float32 if name.startswith(FLOAT32_PARTS) else dtype
        converted = tensor.to(device, precise if tensor.is_floating_point() else tensor.dtype)
        if converted is not tensor:
            _let_go(tensor, files)
        return converted

    state = {name: placed(name, tensor) for name, tensor in checkpoint.tensors.items()}
    network.load_state_dict(state, strict=True, assign=True)
    _restore_buffers(network, device)
    network.requires_grad_(requires_grad=False).eval().settle()
    return network


def require_fit_of(checkpoint: Checkpoint) -> Sam3Network:
    """A hollow network (on the meta device) that a checkpoint's tensors fit.

    Raises:
        CheckpointError: They do not.
    """
    try:
        with torch.device("meta"):
            network = Sam3Network(checkpoint.architecture, has_click_head=checkpoint.has_click_decoder)
    except (ValueError, RuntimeError, ZeroDivisionError, NotImplementedError, KeyError, TypeError) as fault:
        raise CheckpointError(f"No network has the dimensions that config.json states: {one_line(fault)}") from fault
    require_fit(network.state_dict(), checkpoint.tensors)
    return network


def require_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Compare names and shapes.

    Raises:
        CheckpointError: They differ; the message names the first few of each kind.
    """
    wrong = [
        f"{name} is {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in found.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    faults = [
        _sentence("missing", [name for name in expected if name not in found]),
        _sentence("unexpected", [name for name in found if name not in expected]),
        _sentence("of another shape", wrong),
    ]
    if any(faults):
        raise CheckpointError(
            "The weights do not fit the architecture. " + " ".join(filter(None, faults)) + " Use the config.json that "
            "belongs to these weights, or a complete SAM 3 checkpoint."
        )


def fingerprint(checkpoint: Checkpoint) -> str:
    """What tells two checkpoints apart: dimensions, names, shapes, and the head, middle and tail of every tensor.

    Training changes every tensor, so probes suffice, and 3.5 GB need not be read before the first request.

    Returns:
        16 hex digits.
    """
    digest = hashlib.sha256(checkpoint.architecture.to_json().encode())
    for name in sorted(checkpoint.tensors):
        tensor = checkpoint.tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.contiguous().reshape(-1)
        count = _PROBE_BYTES // flat.element_size()
        middle = max(0, len(flat) // 2 - count // 2)
        for probe in (flat[:count], flat[middle : middle + count], flat[-count:]):
            digest.update(probe.clone().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _mapped_files() -> list[range]:
    """Addresses at which this process sees files; none on systems that do not list them."""
    listing = Path("/proc/self/maps")
    if not listing.exists():
        return []
    fields = (line.split(maxsplit=5) for line in listing.read_text().splitlines())
    spans = (span.split("-") for span, _, _, _, inode, *_ in fields if inode != "0")
    return [range(int(start, 16), int(end, 16)) for start, end in spans]


def _let_go(tensor: Tensor, files: list[range]) -> None:
    """Drop a file's pages from memory; whoever reads them again gets them from the file. Nothing if in no file."""
    first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end and any(first in file and end <= file.stop for file in files):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)


def _restore_buffers(network: Any, device: torch.device) -> None:
    """Recompute what no file holds: rotary frequencies and position ids."""
    for layer in network.detector_model.vision_encoder.backbone.layers:
        layer.position_ids = layer.precompute_positions(layer.config, layer.window_size).to(device)
        frequencies, _ = layer.rotary_emb.compute_axial_rope_parameters(layer.config, device)
        layer.rotary_emb.inv_freq = frequencies
        layer.rotary_emb.original_inv_freq = frequencies.clone()
    for module in network.detector_model.text_encoder.modules():
        if isinstance(getattr(module, "position_ids", None), Tensor):
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
    hollow = [name for name, tensor in _all_tensors(network) if tensor.is_meta]
    if hollow:
        raise CheckpointError(
            f"This version of transformers keeps values that no checkpoint holds ({', '.join(hollow[:_NAMES_SHOWN])}). "
            "Install the version named in pyproject.toml."
        )


def _all_tensors(network: torch.nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _sentence(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:_NAMES_SHOWN])}{more}."
