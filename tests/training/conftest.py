"""One very small training run that the tests of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny import tiny_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after three steps."""
    return tiny_run(tmp_path_factory.mktemp("trained"))
