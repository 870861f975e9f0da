"""A reproducible ``sam3.pt``: the published names, small dimensions, random weights.

Meta's own code answered prompts for exactly these weights; ``reference/expected.npz`` holds its answers. Every tensor
is seeded by its own name, so the same file comes out on any machine. The scales keep activations alive in every
branch: a branch that is wired wrongly shows.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import torch

REFERENCE = Path(__file__).parent / "reference"

_PLAIN = (
    *("query_embed", "presence_token", "label_embed", "cls_embed", "not_a_point_embed", "no_mask_embed", "iou_token"),
    *("mask_tokens", "obj_score_token", "reference_points"),
)
_MEMORY = ("no_mem_embed", "no_mem_pos_enc", "no_obj_ptr", "no_obj_embed_spatial", "maskmem_tpos_enc")
_POSITIONS = ("pos_embed", "token_embedding.weight", "positional_embedding")
_DAMPED = (
    *((ending, 0.35) for ending in ("out_proj.weight", "linear2.weight", "attn.proj.weight")),
    *((ending, 0.35) for ending in ("mlp.fc2.weight", "mlp.c_proj.weight")),
    ("bbox_embed.layers.2", 0.5),
    ("mask_embed.layers.2", 0.3),
)
"""Outputs of branches: damped, so that deep sums neither explode nor vanish."""
_NORMS = ("norm", ".ln_", "ln_pre", "ln_final")


def write_checkpoint(path: Path, *, seed: int = 1) -> None:
    """Write the checkpoint.

    Args:
        path: A ``.pt`` file.
        seed: The expected answers belong to seed 1.
    """
    torch.save(published_tensors(seed=seed), path)


def published_tensors(*, seed: int = 1) -> dict[str, torch.Tensor]:
    """All tensors under Meta's names, rotary tables as zeros."""
    tensors = {}
    for line in (REFERENCE / "keys.tsv").read_text().splitlines():
        name, dimensions, dtype = line.split("\t")
        shape = [int(each) for each in dimensions.split(",")] if dimensions else []
        is_random = dtype == "float32"
        tensors[name] = _random(name, shape, seed) if is_random else torch.zeros(shape, dtype=getattr(torch, dtype))
    return tensors


def _random(name: str, shape: list[int], seed: int) -> torch.Tensor:
    part, inner = name.split(".", 1)
    seeded_by = inner if part == "detector" else f"inst_interactive_predictor.model.{inner}"
    generator = torch.Generator().manual_seed(zlib.crc32(seeded_by.encode()) + seed)
    values = torch.randn(shape, generator=generator)
    if _is_norm_weight(seeded_by):
        return 1 + 0.1 * values
    scale = _plain_scale(seeded_by, shape)
    if scale is not None:
        return scale * values
    values = values / math.sqrt(max(_fan_in(seeded_by, shape), 1))
    for ending, damping in _DAMPED:
        if ending in seeded_by:
            values = damping * values
    return values


def _is_norm_weight(name: str) -> bool:
    return name.endswith("weight") and any(norm in name for norm in _NORMS)


def _plain_scale(name: str, shape: list[int]) -> float | None:
    """Spread of parameters that no fan-in applies to; None for weight matrices."""
    if name.endswith("bias"):
        return 0.05
    if name.endswith((*(f"{each}.weight" for each in _PLAIN), *_MEMORY, "gaussian_matrix")):
        return 1.0
    if "point_embeddings." in name:
        return 1.0
    if name.endswith(_POSITIONS):
        return 0.3
    return 0.5 if len(shape) <= 1 else None


def _fan_in(name: str, shape: list[int]) -> int:
    if len(shape) != 4:
        return shape[-1]
    return shape[0] if "dconv" in name else math.prod(shape[1:])  # transposed convolutions list their inputs first
