"""How many workers there are, and which device each of them has.

The parent process must not import torch (it forks), so that GPUs are counted by a process of their own.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_backend.errors import SettingsError

if TYPE_CHECKING:
    from sam3_backend.settings import Settings

COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the workers compute.

    Attributes:
        devices: One device per worker, in the words of the ``DEVICE`` setting.
    """

    devices: tuple[str, ...]

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self.devices)

    def free_slot(self, taken: set[int]) -> int:
        """The lowest place that no living worker has; a worker that replaces another one takes its device over."""
        return min(set(range(self.workers)) - taken, default=0)


def place(settings: Settings) -> Placement:
    """Spread the workers over the GPUs: one on each with ``WORKERS=auto``, else in turn.

    Raises:
        SettingsError: The GPUs cannot be counted.
    """
    spreads = settings.device in {"auto", "cuda"} and settings.workers != 1
    gpus = count_gpus() if spreads else 0
    workers = max(1, gpus) if settings.workers == "auto" else settings.workers
    if gpus == 0:
        return Placement((settings.device,) * workers)
    return Placement(tuple(f"cuda:{slot % gpus}" for slot in range(workers)))


def count_gpus() -> int:
    """How many CUDA devices torch sees.

    Raises:
        SettingsError: Torch cannot be asked.
    """
    answer = subprocess.run([sys.executable, "-c", COUNT_GPUS], capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode or not answer.stdout.strip().isdigit():
        raise SettingsError(f"The GPUs cannot be counted; set WORKERS to a number. Torch says: {answer.stderr[-500:]}")
    return int(answer.stdout)
