"""What an annotator waits for, beside the model itself: ``python -m benchmarks.interactive [--json PATH]``.

A real server process on the demo checkpoint, asked over loopback as Label Studio asks. "Beyond the decoder" is the time
of a whole request less the time of the bare decoder call, measured on the same weights in a process of its own.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import redis
import torch

from benchmarks.clicks import (
    answered_mask,
    bare_decoder_s,
    clicks_on,
    report_clicks,
    timed,
    transformers_decoder_s,
    usual_pattern,
)
from benchmarks.picture_host import LABEL, Annotator, drawing, jpeg, request_body, uploads
from benchmarks.report import Report, options
from examples.studio.backend import start_backend
from examples.studio.processes import free_port
from sam3_backend import Predictor
from sam3_backend.answer import AnswerOptions
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import decode_picture
from sam3_backend.model.scheduler import Scheduler, Terms
from sam3_backend.prompts import PromptSet
from sam3_backend.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import Iterator

CLICKS = 200
ANNOTATORS = 8
TURNS = 9
BATCH_TASKS = 200
MODEL_FREE_LABELS = 15
"""Of the 20 labels on one picture, how many name something that is not there."""


def main() -> None:
    """Measure, print, write."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    report = Report(
        "Interactive use on the demo checkpoint", conditions={"clicks": CLICKS, "picture": "1920 x 1080 JPEG"}
    )
    predictor = Predictor.load("demo")
    files = {f"{seed}.jpg": jpeg(drawing(seed)) for seed in range(ANNOTATORS)}
    many = {f"batch-{seed}.jpg": jpeg(drawing(seed, 960, 540)) for seed in range(BATCH_TASKS)}
    decoder_s = bare_decoder_s(predictor, files["0.jpg"], CLICKS)
    report.add("bare decoder call", 1000 * statistics.median(decoder_s), "ms")
    theirs_s = transformers_decoder_s(predictor, files["0.jpg"], CLICKS)
    report.add("… as transformers has it, on all threads", 1000 * statistics.median(theirs_s), "ms")
    with uploads(files | many) as host, tempfile.TemporaryDirectory() as folder:
        environment = {"LABEL_STUDIO_URL": host, "LABEL_STUDIO_API_KEY": "benchmark", "LOG_LEVEL": "WARNING"}
        with start_backend(Path(folder) / "log", env=environment) as server:
            cached = cached_clicks(server.url)
            report_clicks(report, cached, decoder_s, most_ms=8, p99_most_ms=25)
            peer = usual_pattern(predictor, host, CLICKS // 10)
            report.add("usual pattern: encode at each click, SDK RLE", 1000 * statistics.median(peer), "ms")
            report.add(
                "usual pattern / cached click", statistics.median(peer) / statistics.median(cached), "x", least=10
            )
            annotators_at_once(server.url, predictor, files["0.jpg"], report)
            clicks_beside_a_batch(server.url, predictor, files["0.jpg"], list(many), report)
        clicks_from_redis(host, environment, Path(folder), statistics.median(cached), report)
    many_labels(predictor, report)
    report.publish(arguments.json)


def cached_clicks(url: str) -> list[float]:
    """Seconds of each click of one annotator on one picture."""
    annotator = Annotator(url)
    return [annotator.predict(body)[1] for body in clicks_on(0, CLICKS + 5)][5:]


def annotators_at_once(url: str, predictor: Predictor, file: bytes, report: Report) -> None:
    """Eight annotators on eight pictures, each clicking as soon as the last answer is there, and bare decoders.

    They take turns, because a shared machine is faster in one minute than in the next; the median turn counts.
    """
    answers: dict[int, list[bytes]] = {}

    def work(seed: int) -> None:
        annotator = Annotator(url)
        answers[seed] = [annotator.predict(body)[0] for body in bodies[seed]]

    bodies = {seed: clicks_on(seed, CLICKS // ANNOTATORS + 1) for seed in range(ANNOTATORS)}
    rates, of_ours, of_theirs, worst = [], [], [], 1.0
    for turn in range(TURNS + 1):
        began = time.perf_counter()
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(ANNOTATORS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clicks_per_s = sum(len(each) for each in answers.values()) / (time.perf_counter() - began)
        worst = min(worst, *(worst_iou(seed, answers[seed]) for seed in answers))
        if turn:  # in the first the server sees the pictures
            rates.append(clicks_per_s)
            of_ours.append(clicks_per_s * statistics.median(bare_decoder_s(predictor, file, CLICKS)))
            of_theirs.append(clicks_per_s * statistics.median(transformers_decoder_s(predictor, file, CLICKS)))
    report.add(f"{ANNOTATORS} annotators, {ANNOTATORS} pictures: clicks per second", statistics.median(rates), "1/s")
    report.add("… of the bare decoder's rate, called from one thread", statistics.median(of_ours), "x", least=0.7)
    report.add("… in the worst turn", min(of_ours), "x")
    report.add("… in the best turn", max(of_ours), "x")
    report.add("… of the rate of transformers' decoder, called from one thread", statistics.median(of_theirs), "x")
    report.add("… worst IoU with the picture's own truth", worst, "", least=0.95)


def worst_iou(seed: int, answers: list[bytes]) -> float:
    """Of the masks answered for one picture with what is drawn on it."""
    picture = drawing(seed)
    truth = picture.truth(LABEL)
    worst = 1.0
    for answer in answers:
        mask = answered_mask(answer, picture)
        worst = min(worst, float((mask & truth).sum() / (mask | truth).sum()))
    return worst


def clicks_beside_a_batch(url: str, predictor: Predictor, file: bytes, names: list[str], report: Report) -> None:
    """Clicks with nothing else going on, and clicks while a batch runs."""
    picture = decode_picture(file, max_pixels=10**8)
    embedding = predictor.encode(picture.rgb)
    calls_s = [
        timed(lambda: predictor.encode(picture.rgb), 5),
        timed(lambda: predictor.detect(embedding, text=LABEL), 5),
    ]
    longest_call_ms = 1000 * max(statistics.median(each) for each in calls_s)
    annotator, bodies = Annotator(url), clicks_on(0, CLICKS)
    idle_ms = 1000 * np.percentile([annotator.predict(body)[1] for body in bodies], 95)
    batch = threading.Thread(target=Annotator(url).predict, args=(request_body(names, None),))
    batch.start()
    beside, at = [], 0
    while batch.is_alive():
        beside.append(annotator.predict(bodies[at % CLICKS])[1])
        at += 1
        time.sleep(0.05)  # a person does not click faster, and the batch shall run too
    busy_ms = 1000 * np.percentile(beside, 95)
    report.add("longest model call", longest_call_ms, "ms")
    report.add("cached click, p95, idle", float(idle_ms), "ms")
    report.add(f"cached click, p95, while {len(names)} tasks are predicted", float(busy_ms), "ms")
    report.add("… above idle, in model calls", float((busy_ms - idle_ms) / longest_call_ms), "x", most=1.5)


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A redis-server of our own; yields its URL."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def clicks_from_redis(host: str, environment: dict[str, str], folder: Path, memory_s: float, report: Report) -> None:
    """Clicks on a server that keeps nothing itself: each embedding comes from Redis."""
    with redis_server(folder) as url:
        settings = environment | {"REDIS_URL": url, "EMBEDDING_MEMORY_BYTES": "0", "LABEL_STUDIO_URL": host}
        with start_backend(folder / "redis-log", env=settings) as server:
            annotator = Annotator(server.url)
            bodies = clicks_on(0, CLICKS // 2 + 5)
            annotator.predict(bodies[0])
            client = redis.Redis.from_url(url)
            while not (names := client.keys("*embedding*")):
                time.sleep(0.01)
            (name,) = names
            transfer_s = statistics.median(timed(lambda: client.get(name), 30))
            seconds = statistics.median(annotator.predict(body)[1] for body in bodies[5:])
    report.add("cached click, embedding in Redis alone, median", 1000 * seconds, "ms")
    report.add("… transfer of its bytes from Redis", 1000 * transfer_s, "ms")
    report.add("… less the transfer / memory hit", (seconds - transfer_s) / memory_s, "x", most=2.5)


def many_labels(predictor: Predictor, report: Report) -> None:
    """Twenty labels on one 4K picture, most of them absent, against the bare detector calls."""
    picture = decode_picture(jpeg(drawing(3, 3840, 2160)), max_pixels=10**8)
    scheduler = Scheduler()
    segmenter = Segmenter(predictor, scheduler, EmbeddingStore(MemoryTier(10**9)), None)  # type: ignore[arg-type]
    present = ["red circle", "blue square", "green triangle", "circle", "square"]
    texts = present + [f"{colour} star" for colour in ("red", "blue", "green", "yellow", "pink")]
    texts += [f"{colour} ring" for colour in ("red", "blue", "green", "yellow", "pink")]
    texts += [f"{colour} cross" for colour in ("red", "blue", "green", "yellow", "pink")]
    sets = [PromptSet(text=text, label=text) for text in texts]
    embedding = predictor.encode(picture.rgb, content_hash=picture.content_hash)
    features = predictor.concepts.picture_features(embedding)
    words = [predictor.concepts.text_features(text) for text in texts]

    network = predictor._network  # noqa: SLF001

    def bare(*, draws: bool) -> None:
        with torch.inference_mode():
            for each in words:
                found = network.detect(features, torch.cat([each, features.cls_token.to(each.dtype)], dim=1))
                scores = found.logits[0].sigmoid() * found.presence_logits[0].sigmoid()
                chosen = torch.nonzero(scores > predictor.default_threshold)[:, 0]
                if draws and len(chosen):
                    network.mask_logits(features, found, 0, chosen)

    # In the thread that makes a server's model calls: another one would bring a second set of helpers along.
    bare_s = statistics.median(scheduler.run(lambda: timed(lambda: bare(draws=False), 5), Terms()))
    drawing_s = statistics.median(scheduler.run(lambda: timed(lambda: bare(draws=True), 5), Terms()))
    whole_s = statistics.median(timed(lambda: segmenter.answer_picture(picture, sets, options=AnswerOptions()), 5))
    report.add("20 labels on one 4K picture, cached", 1000 * whole_s, "ms")
    report.add("… over the bare detector calls", whole_s / bare_s, "x", most=1.15)
    report.add("… over the same with the mask head for what is there", whole_s / drawing_s, "x")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
