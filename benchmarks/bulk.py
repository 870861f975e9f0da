"""How much of the model's own rate a bulk run keeps, and what the plain loop keeps: ``python -m benchmarks.bulk``.

The same pictures (1080p JPEGs served over loopback), four labels, the same weights, one process, in turns:

- the bare model: pictures decoded and resized beforehand, encode and detect back to back, nothing else;
- the local pipeline of ``sam3-backend preannotate``, writing chunks of predictions over HTTP;
- the plain loop, as transformers' documentation has it: download, processor, model and post-processing once per label,
  the SDK's RLE, one POST for each prediction.

Pictures come from, and predictions go to, a process that stands for Label Studio and does nothing with them: what a
real one costs is in ``benchmarks.bulk_import``.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import requests
import torch
from label_studio_sdk.converter import brush
from PIL import Image
from transformers import Sam3Model, Sam3Processor

import sam3_backend
from benchmarks.picture_host import drawing, jpeg
from benchmarks.report import Report, options
from sam3_backend import Predictor
from sam3_backend.bulk.journal import Journal
from sam3_backend.bulk.pipeline import outcomes
from sam3_backend.bulk.work import Failed, Task, predicting
from sam3_backend.bulk.writer import Writer
from sam3_backend.cli.preannotate import PARALLEL_ON_CPU
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import KnownPictures, PictureLoader, decode_picture
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.predictions import Predictions
from sam3_backend.label_studio.stored_predictions import StoredPredictions
from sam3_backend.model.scheduler import Scheduler
from sam3_backend.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

CHECKPOINT = Path(sam3_backend.__file__).parent / "demo"
LABELS = ("red circle", "blue square", "green triangle", "yellow star")
CONFIG = LabelConfig.parse(
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image" smart="false">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)


def stand_in(pictures: list[bytes], tell: Connection) -> None:
    """A process that serves pictures and swallows predictions."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/api/"):  # what holds a prediction already, and whether any is there twice
                nothing: Any = {"tasks": [], "total": 0} if self.path.startswith("/api/tasks/") else []
                self._answer(200, json.dumps(nothing).encode())
                return
            self._answer(200, pictures[int(self.path.rsplit("/", 1)[-1].removesuffix(".jpg"))])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(201, json.dumps({"created": len(body)}).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not wanted."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        tell.send(server.server_port)
        server.serve_forever()


def bare(predictor: Predictor, pictures: list[bytes]) -> Callable[[], int]:
    """The model alone."""
    ready = [predictor.prepare(decode_picture(data, max_pixels=10**8).rgb) for data in pictures]

    def run() -> int:
        return sum(
            len(answer.found) for each in ready for answer in predictor.detect_each(predictor.encode(each), LABELS)
        )

    return run


def pipeline(predictor: Predictor, pictures: list[bytes], url: str, folder: Path) -> Callable[[], int]:
    """What ``sam3-backend preannotate`` does after it has listed the tasks."""
    turns = iter(range(10**6))

    def run() -> int:
        threads = torch.get_num_threads()
        try:
            return once(Scheduler(at_once=predictor.pace.spread()))
        finally:
            torch.set_num_threads(threads)  # the others have their own ways with them

    def once(scheduler: Scheduler) -> int:
        access = LabelStudioAccess(url=url, api_key="none", timeout_s=30)
        source = KnownPictures(PictureLoader())
        segmenter = Segmenter(predictor, scheduler, EmbeddingStore(MemoryTier(256 * 1024**2)), source)
        predictions = Predictions(segmenter, access, predictor, lambda _code: None, lambda _stage, _seconds: None)
        tasks = [Task(number, {"image": f"/data/upload/1/{number}.jpg"}) for number in range(len(pictures))]
        journal = Journal(folder / f"{next(turns)}.sqlite3", url, "v")
        journal.list_tasks(tasks, set())
        writer = Writer(StoredPredictions(access.api(None), 1, "v"), journal)
        found = 0
        for outcome in outcomes(journal.waiting(), predicting(predictions, CONFIG), PARALLEL_ON_CPU):
            if isinstance(outcome, Failed):
                raise RuntimeError(outcome.message)  # noqa: TRY004 - not its type is wrong
            found += len(outcome.found)
            writer.add(outcome)
        writer.close()
        journal.close()
        access.close()
        return found

    return run


def plain_loop(count: int, url: str, threshold: float) -> Callable[[], int]:
    """What a first script does."""
    processor = Sam3Processor.from_pretrained(CHECKPOINT)
    model = Sam3Model.from_pretrained(CHECKPOINT).eval()

    def run() -> int:
        found = 0
        for number in range(count):
            data = requests.get(f"{url}/data/upload/1/{number}.jpg", timeout=30).content
            image = Image.open(io.BytesIO(data)).convert("RGB")
            regions: list[dict[str, Any]] = []
            for label in LABELS:
                inputs = processor(images=image, text=label, return_tensors="pt")
                sizes = inputs.pop("original_sizes").tolist()
                with torch.inference_mode():
                    outputs = model(**inputs)
                (answer,) = processor.post_process_instance_segmentation(
                    outputs, threshold=threshold, mask_threshold=0.5, target_sizes=sizes
                )
                for mask in answer["masks"]:
                    ls_rle = brush.mask2rle(mask.numpy().astype(np.uint8) * 255)
                    regions.append({"value": {"format": "rle", "rle": ls_rle, "brushlabels": [label]}})
            found += len(regions)
            requests.post(f"{url}/api/predictions/", json={"task": number, "result": regions}, timeout=30)
        return found

    return run


def main() -> None:
    """Measure in turns, and report the best turn of each."""
    parser = options(__doc__ or "")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    pictures = [jpeg(drawing(seed)) for seed in range(arguments.pictures)]
    here, there = multiprocessing.Pipe()
    host = multiprocessing.get_context("spawn").Process(target=stand_in, args=(pictures, there), daemon=True)
    host.start()
    url = f"http://127.0.0.1:{here.recv()}"
    predictor = Predictor.load("demo", clicks=False)  # as a bulk run does that shares nothing with annotators
    predictor.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "bare model": bare(predictor, pictures),
            "local pipeline": pipeline(predictor, pictures, url, Path(folder)),
            "plain loop": plain_loop(len(pictures), url, predictor.default_threshold),
        }
        wall_s, cpu_s, found = measure(runs, arguments.turns)
    host.kill()
    report = Report("Bulk pre-annotation: pictures a second, demo checkpoint, 1080p JPEGs, 4 labels")
    for name, seconds in wall_s.items():
        report.add(name, len(pictures) / min(seconds), "pictures/s")
    ratio = min(wall_s["bare model"]) / min(wall_s["local pipeline"])
    report.add("local pipeline / bare model", ratio, "x", least=0.85)
    report.add("local pipeline / plain loop", min(wall_s["plain loop"]) / min(wall_s["local pipeline"]), "x", least=4)
    # Where others use the machine too, this says more than the clock on the wall does.
    spent = min(cpu_s["bare model"]) / min(cpu_s["local pipeline"])
    report.add("local pipeline / bare model, by processor time", spent, "x")
    for name, seconds in cpu_s.items():
        report.add(f"{name}, processor time of its process", 1000 * min(seconds) / len(pictures), "ms/picture")
    report.conditions = {
        "pictures": len(pictures),
        "turns": arguments.turns,
        "torch threads": torch.get_num_threads(),
        "objects found": found,
        "wall seconds": {name: [round(each, 2) for each in seconds] for name, seconds in wall_s.items()},
    }
    report.publish(arguments.json)


def measure(
    runs: dict[str, Callable[[], int]], turns: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, int]]:
    """Wall and processor seconds of every turn, and how many objects were found."""
    wall_s: dict[str, list[float]] = {name: [] for name in runs}
    cpu_s: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, int] = {}
    for _ in range(turns):
        for name, run in runs.items():
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            found[name] = run()
            wall_s[name].append(time.perf_counter() - began_s)
            cpu_s[name].append(time.process_time() - began_cpu_s)
    return wall_s, cpu_s, found


if __name__ == "__main__":
    main()
