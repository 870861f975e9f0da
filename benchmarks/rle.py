"""Label Studio's brush RLE on 4000 x 3000 pictures: this package beside Label Studio's SDK, in one run.

Every stream is compared with the SDK's before it is timed. "From the mask" starts at the crop that the predictor hands
over, "from an array" includes cutting a whole picture's array to that crop.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from label_studio_sdk.converter import brush

from benchmarks.report import Report, options
from sam3_backend.label_studio import rle
from sam3_backend.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH_PX, HEIGHT_PX = 4000, 3000
LEAST_SPEEDUP = 15


def cases() -> dict[str, np.ndarray]:
    """Masks, (HEIGHT_PX, WIDTH_PX) bool: what annotators draw, and the worst that may come."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    radius = np.hypot(x - 2000, y - 1500)
    angle = np.arctan2(y - 1500, x - 2000)
    blocks = np.random.default_rng(0).random((HEIGHT_PX // 20, WIDTH_PX // 20)) < 0.5
    return {
        "object of 200 px": radius < 100,
        "disc of 2400 px": radius < 1200,
        "ragged star": radius < 900 + 300 * np.sin(40 * angle),
        "nothing": np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool),
        "everything": np.ones((HEIGHT_PX, WIDTH_PX), dtype=bool),
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


def measure(report: Report, name: str, array: np.ndarray, repeat: int) -> None:
    """Add one mask's figures; the two encoders and our decoder agree, or it ends here."""
    grey, mask = array.astype(np.uint8) * 255, Mask.from_array(array)
    stream = rle.encode_mask(mask)
    if stream != brush.mask2rle(grey):
        raise SystemExit(f"{name}: the two encoders disagree")
    if not np.array_equal(rle.decode(stream, WIDTH_PX, HEIGHT_PX), array):
        raise SystemExit(f"{name}: the decoder does not give the mask back")
    sdk_encode_ms = best_ms(lambda: brush.mask2rle(grey), repeat)
    sdk_decode_ms = best_ms(lambda: brush.decode_rle(stream), repeat)
    encode_ms = best_ms(lambda: rle.encode_mask(mask), repeat)
    array_ms = best_ms(lambda: rle.encode_mask(Mask.from_array(array)), repeat)
    decode_ms = best_ms(lambda: rle.decode(stream, WIDTH_PX, HEIGHT_PX), repeat)
    report.add(f"{name}: stream", len(stream) / 1000, "kB")
    report.add(f"{name}: encode, SDK", sdk_encode_ms, "ms")
    report.add(f"{name}: encode from an array", array_ms, "ms")
    report.add(f"{name}: encode from the mask", encode_ms, "ms")
    report.add(f"{name}: encode, SDK / ours", sdk_encode_ms / encode_ms, "x", least=LEAST_SPEEDUP)
    report.add(f"{name}: decode, SDK", sdk_decode_ms, "ms")
    report.add(f"{name}: decode", decode_ms, "ms")
    report.add(f"{name}: decode, SDK / ours", sdk_decode_ms / decode_ms, "x")


def main() -> None:
    """Print the table; write the figures where asked."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    peer = f"label-studio-sdk {version('label-studio-sdk')}"
    report = Report(f"Brush RLE of {WIDTH_PX} x {HEIGHT_PX} px, beside {peer}")
    report.conditions = {"peer": peer, "repeat": arguments.repeat, "chosen": "shortest run"}
    for name, array in cases().items():
        measure(report, name, array, arguments.repeat)
    report.publish(arguments.json)


if __name__ == "__main__":
    main()
