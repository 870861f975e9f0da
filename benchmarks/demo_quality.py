"""How good and how quick the demo checkpoint is: measured figures beside what was asked of it.

`python benchmarks/demo_quality.py [--pictures 200] [--json FILE]`. The quality part draws held-out pictures
(`training.evaluate.HELD_OUT`); the timing part uses one of 1920x1080.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sam3_backend import Predictor  # noqa: E402
from training.evaluate import evaluate  # noqa: E402
from training.shapes import Settings, draw  # noqa: E402

QUALITY = (
    ("one click -> mask, mean IoU", "click_iou", 0.85, 0.95),
    ("three clicks, one negative, mean IoU", "three_clicks_iou", 0.90, 0.97),
    ("box -> mask, mean IoU", "box_iou", 0.90, 0.97),
    ("text -> instances, F1 at IoU 0.5", "text_f1", 0.85, 0.95),
    ("absent concept -> nothing, specificity", "absent_specificity", 0.95, 0.99),
    ("one exemplar -> the others, recall at IoU 0.5", "exemplar_recall", 0.75, 0.90),
)
LIMITS = (
    ("encode 1080p, ms", "encode_ms", 300.0),
    ("decode a click, ms", "click_ms", 40.0),
    ("files, MB", "size_mb", 12.0),
)


def fastest_ms(action: Callable[[], object], times: int) -> float:
    """Fastest wall time of `action` in milliseconds after a first call; a median measures the neighbours."""
    action()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - start))
    return min(taken)


def cost(predictor: Predictor) -> dict[str, float]:
    """Milliseconds and megabytes."""
    full_hd = draw(1, Settings(area_px=(1920 * 1080, 1920 * 1080), aspect=(16 / 9, 16 / 9)))
    embedding = predictor.encode(full_hd.image)
    files = sum(path.stat().st_size for path in (ROOT / "sam3_backend" / "demo").iterdir() if path.is_file())
    return {
        "encode_ms": fastest_ms(lambda: predictor.encode(full_hd.image), 9),
        "click_ms": fastest_ms(lambda: predictor.segment(embedding, points=[(960, 540)]).masks[0], 25),
        "text_ms": fastest_ms(lambda: [each.mask for each in predictor.detect(embedding, text="red circle").found], 9),
        "size_mb": files / 1e6,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    predictor = Predictor.load(arguments.checkpoint)
    costs = cost(predictor)
    quality = evaluate(predictor, arguments.pictures).summary()
    print(f"{arguments.checkpoint} on {arguments.pictures} held-out pictures\n")
    print(f"{'measure':46} {'measured':>8} {'at least':>8} {'aim':>6}")
    for title, name, floor, aim in QUALITY:
        print(f"{title:46} {quality[name]:8.3f} {floor:8.2f} {aim:6.2f}{'' if quality[name] >= floor else '  below'}")
    print()
    for title, name, limit in LIMITS:
        print(f"{title:46} {costs[name]:8.1f} {'at most':>8} {limit:6.0f}{'' if costs[name] <= limit else '  above'}")
    if arguments.json:
        machine = {
            "name": platform.node(),
            "processor": _processor(),
            "threads": arguments.threads,
            "torch": torch.__version__,
        }
        result = {"pictures": arguments.pictures, "quality": quality, "cost": costs, "machine": machine}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
