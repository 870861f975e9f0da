"""How every benchmark says what it found: a table for people, JSON for comparisons, the machine named in both."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("torch", "transformers", "numpy", "label-studio-sdk")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: What was measured.
        value: The number.
        unit: Its unit; ``x`` for a ratio.
        target: What it should be, in words, or None.
        is_met: Whether it is; None without a target.
    """

    name: str
    value: float
    unit: str
    target: str | None = None
    is_met: bool | None = None


@dataclass
class Report:
    """Figures of one benchmark run.

    Attributes:
        title: What was measured.
        figures: The numbers, in order.
        conditions: What one must know to judge them.
    """

    title: str
    figures: list[Figure] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str, *, most: float | None = None, least: float | None = None) -> None:
        """Add a figure, with the most or the least it should be."""
        if most is not None:
            self.figures.append(Figure(name, value, unit, f"≤ {most:g} {unit}", value <= most))
        elif least is not None:
            self.figures.append(Figure(name, value, unit, f"≥ {least:g} {unit}", value >= least))
        else:
            self.figures.append(Figure(name, value, unit))

    def publish(self, json_path: Path | None) -> None:
        """Print the table, and write the JSON where a path is given."""
        table = Table(title=f"{self.title}\n{machine()}", title_justify="left")
        for column, side in (("measure", "left"), ("measured", "right"), ("target", "left"), ("", "left")):
            table.add_column(column, justify=side)  # type: ignore[arg-type]
        for each in self.figures:
            verdict = "" if each.is_met is None else "met" if each.is_met else "missed"
            table.add_row(each.name, f"{each.value:,.4g} {each.unit}", each.target or "", verdict)
        Console(width=140).print(table)
        if json_path:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            report = {
                "title": self.title,
                "machine": machine(),
                "date": time.strftime("%Y-%m-%d"),
                "packages": {name: version(name) for name in PACKAGES},
                "conditions": self.conditions,
                "figures": [asdict(each) for each in self.figures],
            }
            json_path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def machine() -> str:
    """The machine in words: processor, cores, memory, and the GPU where torch sees one."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        cpu = next((line.split(":")[1].strip() for line in information.open() if line.startswith("model name")), cpu)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    words = f"{cpu}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}"
    import torch

    return f"{torch.cuda.get_device_name()}, {words}" if torch.cuda.is_available() else words


def options(description: str) -> argparse.ArgumentParser:
    """The options every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser
