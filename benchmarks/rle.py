"""Label Studio's brush RLE on 4000 x 3000 pictures: this package beside Label Studio's SDK, in one run.

``python benchmarks/rle.py [--json PATH] [--repeat N]``. Every stream is compared with the SDK's before it is timed.
"From array" includes cutting the whole-picture array to the object; "from mask" starts at the crop that the predictor
hands over.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from label_studio_sdk.converter import brush
from rich.console import Console
from rich.table import Table

from sam3_backend.label_studio import rle
from sam3_backend.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH_PX, HEIGHT_PX = 4000, 3000


def cases() -> dict[str, np.ndarray]:
    """Masks, (HEIGHT_PX, WIDTH_PX) bool: what annotators draw, and the worst that may come."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    radius = np.hypot(x - 2000, y - 1500)
    angle = np.arctan2(y - 1500, x - 2000)
    rng = np.random.default_rng(0)
    blocks = rng.random((HEIGHT_PX // 20, WIDTH_PX // 20)) < 0.5
    return {
        "small object (200 px)": radius < 100,
        "large disc (2400 px)": radius < 1200,
        "ragged star": radius < 900 + 300 * np.sin(40 * angle),
        "empty": np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool),
        "full": np.ones((HEIGHT_PX, WIDTH_PX), dtype=bool),
        "20 px blocks at random": np.kron(blocks, np.ones((20, 20), dtype=bool)),
    }


def best_ms(work: Callable[[], object], repeat: int) -> float:
    """The shortest of ``repeat`` runs, in ms: the one the rest of the machine disturbed least."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def measure(name: str, array: np.ndarray, repeat: int) -> dict[str, float | str | int]:
    """One row of the table; the two encoders and the two decoders agree, or it raises."""
    grey, mask = array.astype(np.uint8) * 255, Mask.from_array(array)
    stream = rle.encode_mask(mask)
    if stream != brush.mask2rle(grey):
        raise SystemExit(f"{name}: the two encoders disagree")
    if not np.array_equal(rle.decode(stream, WIDTH_PX, HEIGHT_PX), array):
        raise SystemExit(f"{name}: the decoder does not give the mask back")
    row: dict[str, float | str | int] = {
        "mask": name,
        "bytes": len(stream),
        "sdk_encode_ms": best_ms(lambda: brush.mask2rle(grey), repeat),
        "encode_from_mask_ms": best_ms(lambda: rle.encode_mask(mask), repeat),
        "encode_from_array_ms": best_ms(lambda: rle.encode_mask(Mask.from_array(array)), repeat),
        "json_ms": best_ms(lambda: json.dumps(stream), repeat),
        "sdk_decode_ms": best_ms(lambda: brush.decode_rle(stream), repeat),
        "decode_ms": best_ms(lambda: rle.decode(stream, WIDTH_PX, HEIGHT_PX), repeat),
    }
    row["encode_speedup"] = float(row["sdk_encode_ms"]) / float(row["encode_from_mask_ms"])
    row["encode_from_array_speedup"] = float(row["sdk_encode_ms"]) / float(row["encode_from_array_ms"])
    row["decode_speedup"] = float(row["sdk_decode_ms"]) / float(row["decode_ms"])
    return row


def main() -> None:
    """Print the table; write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    rows = [measure(name, array, arguments.repeat) for name, array in cases().items()]
    report = {
        "machine": f"{platform.node()}, {platform.machine()}, {platform.platform()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "peer": f"label-studio-sdk {version('label-studio-sdk')}",
        "picture": [WIDTH_PX, HEIGHT_PX],
        "rows": rows,
    }
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    table = Table(title=f"brush RLE, {WIDTH_PX} x {HEIGHT_PX}, ms, against {report['peer']}")
    for title in rows[0]:
        table.add_column(title.replace("_", " "), justify="left" if title == "mask" else "right")
    for row in rows:
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
