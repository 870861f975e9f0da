"""What loading leaves in memory, and what it leaves alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3_backend.model import weights
from sam3_backend.model.checkpoint import DEMO_DIRECTORY, Checkpoint, open_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def mapped(tmp_path: Path) -> Checkpoint:
    """The demo checkpoint in a file that no other test has in memory."""
    shutil.copytree(DEMO_DIRECTORY, tmp_path / "copy")
    return open_checkpoint(str(tmp_path / "copy"))


def resident_bytes(path: Path) -> int:
    """How much of a mapped file is in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    kib = [
        next(int(each.split()[1]) for each in lines if each.startswith("Rss:"))
        for line in lines
        if line.endswith(str(path))
    ]
    assert kib, f"{path} is not mapped"
    return 1024 * sum(kib)


def test_what_was_converted_stays_in_memory_once(mapped: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "copy" / "model.safetensors"
    for tensor in mapped.tensors.values():
        tensor.sum()
    before = resident_bytes(path)
    assert before > 0.9 * path.stat().st_size
    weights.build(mapped, device=CPU, dtype=torch.bfloat16)
    assert resident_bytes(path) < before / 2


@pytest.mark.parametrize("in_a_file", [True, False])
def test_a_checkpoint_reads_the_same_after_loading(mapped: Checkpoint, *, in_a_file: bool) -> None:
    if not in_a_file:
        mapped = replace(mapped, tensors={name: tensor.clone() for name, tensor in mapped.tensors.items()})
    before = {name: tensor.clone() for name, tensor in mapped.tensors.items()}
    weights.build(mapped, device=CPU, dtype=torch.bfloat16)
    assert all(torch.equal(mapped.tensors[name], tensor) for name, tensor in before.items())
