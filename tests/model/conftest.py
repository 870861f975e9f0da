"""Predictors that tests of one session share: loading and encoding are paid for once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from reference_checkpoint import REFERENCE, write_checkpoint

from sam3_backend import Predictor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def demo() -> Predictor:
    """The shipped checkpoint."""
    return Predictor.load("demo", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def reference_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ``sam3.pt`` with known answers, and its dimensions beside it (231 MB, removed afterwards)."""
    directory = tmp_path_factory.mktemp("reference")
    write_checkpoint(directory / "sam3.pt")
    shutil.copy(REFERENCE / "config.json", directory)
    yield directory / "sam3.pt"
    shutil.rmtree(directory)
