"""A very small model and a very short training run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from training.shapes import Settings
from training.sizes import Sizes
from training.train import train
from training.trainer import Plan

if TYPE_CHECKING:
    from pathlib import Path

TINY = Sizes(
    grid=8,
    window=4,
    vit_width=32,
    vit_layers=2,
    global_layers=(1,),
    width=16,
    encoder_layers=1,
    decoder_layers=2,
    queries=9,
)


def tiny_run(out: Path, **changes: Any) -> Path:
    """Three steps from scratch in this process; returns the directory of the checkpoint."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    small = {"steps": 3, "workers": 1, "batch": 2, "masked": 1, "clicked": 1, "objects": 2, "sizes": TINY}
    threads = torch.get_num_threads()
    try:
        train(Plan(out, settings=Settings(count=(2, 4)), **{**small, **changes}))
    finally:
        torch.set_num_threads(threads)
    return out
