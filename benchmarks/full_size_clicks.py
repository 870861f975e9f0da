"""Clicks on the full-size network as an annotator makes them, over HTTP, beside the usual pattern of other backends.

    python -m benchmarks.full_size_clicks [--device auto] [--dtype auto] [--repeats 3] [--scratch DIR] [--json FILE]

A real server process on a random checkpoint of the published dimensions (3.5 GB, in ``--scratch`` or a temporary
folder), asked over loopback as Label Studio asks. When the server is gone, the bare decoder and the usual pattern run
on the same weights in a process of their own. Runs unchanged on CUDA.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.clicks import (
    UNCOUNTED,
    answered_mask,
    bare_decoder_s,
    brush_stream,
    clicks_on,
    report_clicks,
    spots_on,
    usual_pattern,
)
from benchmarks.full_size_checkpoint import folder_for, write_transformers_layout
from benchmarks.isolation import alone
from benchmarks.picture_host import LABEL_CONFIG, Annotator, drawing, jpeg, request_body, uploads
from benchmarks.report import Report, options
from examples.studio.backend import start_backend
from sam3_backend import Predictor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PICTURE = drawing(0)
CLICKS = 30
FURTHER_CLICKS = 10
PATIENCE_S = 900
"""For the server to be ready, and for each answer; slow processors look at a picture for minutes."""
MASK_THRESHOLD = 0.9
"""Random weights put every pixel above the default of 0.5. A mask of the whole picture is one run, which would make
drawing and run lengths too cheap; at 0.9 it is dust over a fifth of the picture, which costs more than an object."""
CONFIG = LABEL_CONFIG.replace("<BrushLabels ", f'<BrushLabels model_mask_threshold="{MASK_THRESHOLD}" ')

Answers = list[tuple[bytes, float]]
"""Bodies of answers, and the seconds each took."""


def main() -> None:
    """Write the checkpoint, measure, report."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=3, help="of the usual pattern, besides one that does not count")
    parser.add_argument("--scratch", type=Path, default=None, help="a folder to keep the checkpoint in")
    plan = parser.parse_args()
    file = jpeg(PICTURE)
    with folder_for(plan.scratch) as checkpoint, uploads({"0.jpg": file}) as host:
        write_transformers_layout(checkpoint)
        asked = clicks_over_http(
            host, {"MODEL_CHECKPOINT": str(checkpoint), "DEVICE": plan.device, "DTYPE": plan.dtype}
        )
        peer = alone(torch.get_num_threads(), beside_it, checkpoint, plan.device, plan.dtype, host, file, plan.repeats)
    report_of(asked, peer).publish(plan.json)


def clicks_over_http(host: str, settings: Mapping[str, str]) -> dict[str, Answers]:
    """Answers of a server to one annotator: the first click on a picture, single clicks, and clicks that refine."""
    environment = {"LABEL_STUDIO_URL": host, "LABEL_STUDIO_API_KEY": "benchmark", "LOG_LEVEL": "WARNING"}
    environment |= {"WORKERS": "1", "REDIS_URL": "", "PREDICT_DEADLINE_S": str(PATIENCE_S)} | dict(settings)
    first, *others = spots_on(0, 1 + FURTHER_CLICKS)
    kinds = {
        "first": [request_body(["0.jpg"], [first], CONFIG)],
        "cached": clicks_on(0, UNCOUNTED + CLICKS, CONFIG),
        "further": [request_body(["0.jpg"], [first, other], CONFIG) for other in others],
    }
    with tempfile.TemporaryDirectory() as folder:
        print("clicks_over_http ...", flush=True)
        with start_backend(Path(folder) / "log", env=environment, ready_within_s=PATIENCE_S) as server:
            annotator = Annotator(server.url)
            asked = {kind: [annotator.predict(body) for body in bodies] for kind, bodies in kinds.items()}
    return asked | {"cached": asked["cached"][UNCOUNTED:]}


def beside_it(
    checkpoint: Path, device: str, dtype: str, host: str, file: bytes, repeats: int
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Seconds of the bare decoder, seconds of the usual pattern, and what both ran on."""
    predictor = Predictor.load(str(checkpoint), device=device, dtype=dtype)
    decoder_s = bare_decoder_s(predictor, file, CLICKS)
    usual_s = usual_pattern(predictor, host, repeats, mask_threshold=MASK_THRESHOLD, uncounted=1)
    return decoder_s, usual_s, {"device": predictor.device, "dtype": predictor.dtype}


def report_of(asked: Mapping[str, Answers], peer: tuple[list[float], list[float], dict[str, Any]]) -> Report:
    """The figures, with what one must know to judge them."""
    decoder_s, usual_s, place = peer
    seconds = {kind: [taken for _, taken in answers] for kind, answers in asked.items()}
    report = Report(
        f"Clicks on the full-size network, random weights, {place['device']}, {place['dtype']}",
        conditions={
            "picture": f"{PICTURE.width_px} x {PICTURE.height_px} JPEG",
            "clicks": CLICKS,
            "further clicks": FURTHER_CLICKS,
            "usual pattern, each run": ", ".join(f"{each:.3g} s" for each in usual_s),
            "mask threshold": MASK_THRESHOLD,
            "masks of single clicks": size_of([answer for answer, _ in asked["cached"]]),
            "masks of further clicks": size_of([answer for answer, _ in asked["further"]]),
        },
    )
    usual, cached_s = min(usual_s), statistics.median(seconds["cached"])
    report.add("first click over HTTP, which encodes", seconds["first"][0], "s")
    report.add("bare decoder call", 1000 * statistics.median(decoder_s), "ms")
    report_clicks(report, seconds["cached"], decoder_s)
    report.add("further click that refines, over HTTP, median", 1000 * statistics.median(seconds["further"]), "ms")
    report.add(f"usual pattern: encode at each click, SDK RLE, fastest of {len(usual_s)}", usual, "s")
    report.add("usual pattern / cached click", usual / cached_s, "x", least=50)
    return report


def size_of(answers: Sequence[bytes]) -> str:
    """How many pixels the masks have, and how long their run lengths are."""
    pixels = [int(answered_mask(answer, PICTURE).sum()) for answer in answers]
    stream_bytes = statistics.median(len(brush_stream(answer)) for answer in answers)
    return (
        f"{statistics.median(pixels):,.0f} pixels ({min(pixels):,} to {max(pixels):,}), "
        f"{stream_bytes:,.0f} bytes of run lengths"
    )


if __name__ == "__main__":
    main()
