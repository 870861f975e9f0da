"""Publish the results of the last runs: ``python -m benchmarks.document``.

Copies them from ``benchmarks/results/`` to ``docs/benchmarks/``, where those of earlier runs stay until a newer one
takes their place, and writes the tables of ``docs/benchmarks.md`` from what is there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PUBLISHED = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
ORDER = (
    *("interactive", "memory", "rle"),
    *("full_size", "full_size_bfloat16", "full_size_clicks"),
    *("bulk", "bulk_import", "bulk_import_all"),
)
"""Results as the page has them; others follow."""
IN_THE_MODEL_CARD = "demo_quality"
WHERE = {"json", "scratch"}
"""Conditions that say where files were put, which matters to nobody else."""
MARK = "<!-- below: written by `python -m benchmarks.document` -->"


def main() -> None:
    """Replace what follows the mark by tables of all published results."""
    PUBLISHED.mkdir(exist_ok=True)
    for result in RESULTS.glob("*.json"):
        if result.stem != IN_THE_MODEL_CARD:
            shutil.copyfile(result, PUBLISHED / result.name)
    found = sorted(PUBLISHED.glob("*.json"), key=lambda path: (*ORDER, path.stem).index(path.stem))
    sections = [section(json.loads(path.read_text())) for path in found]
    words = PAGE.read_text().split(MARK)[0]
    PAGE.write_text(f"{words}{MARK}\n\n" + "\n".join(sections))


def section(result: dict[str, Any]) -> str:
    """One result as a heading, its conditions and a table."""
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    said = {name: value for name, value in result["conditions"].items() if isinstance(value, (int, float, str))}
    conditions = "; ".join(f"{name}: {value}" for name, value in said.items() if name not in WHERE)
    lines = [f"## {result['title']}", "", f"{result['machine']}. {result['date']}. {packages}."]
    lines += [f"{conditions}.", ""] if conditions else [""]
    lines += ["| measure | measured | target | |", "|---|---:|---|---|"]
    for each in result["figures"]:
        verdict = "" if each["is_met"] is None else "met" if each["is_met"] else "**missed**"
        lines.append(f"| {each['name']} | {each['value']:,.4g} {each['unit']} | {each['target'] or ''} | {verdict} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
