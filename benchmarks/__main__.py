"""Run the benchmarks one after the other, each in a process of its own: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = ("rle", "demo_quality", "interactive", "memory", "bulk", "bulk_import")
"""What ``make bench`` runs; ``full_size`` and ``full_size_clicks`` take long and run when they are named."""
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run them; 1 if one of them could not be run."""
    failed = [
        name
        for name in sys.argv[1:] or NAMES
        if subprocess.call([sys.executable, "-m", f"benchmarks.{name}", "--json", str(RESULTS / f"{name}.json")])
    ]
    if failed:
        print(f"could not be run: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
