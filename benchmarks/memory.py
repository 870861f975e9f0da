"""What a worker's memory does over thousands of pictures: ``python -m benchmarks.memory [--json PATH] [--pictures N]``.

A real server on the demo checkpoint, asked over loopback for a click and a further click on each of so many distinct
uploads: download, decoding, encoder, decoder, run lengths. After some pictures everything that is kept within bounds is
full; from there on the memory should stay where it is.
"""

from __future__ import annotations

import re
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import httpx
import numpy as np

from benchmarks.picture_host import Annotator, drawing, keypoint, request_body, uploads
from benchmarks.report import Report, options
from examples.studio.backend import start_backend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PICTURES = 2000
LOOKS = (0.1, 0.25, 0.5, 1.0)
"""At what parts of the pictures the memory is looked at."""
FULL_AT = 0.5
"""From this part of the pictures on, everything that is bounded is full. The masks that further clicks refine come
last: 64 MiB of them, two of 64 KiB for each picture on the demo checkpoint, are full after 512 pictures."""
EMBEDDING_MEMORY_BYTES = 64 * 1024**2
MOST_GROWTH_MIB = 16.0
"""Noise of the allocator; the embeddings of a thousand pictures, kept by mistake, would be fifty times as much."""


class ManyPictures:
    """Files by name, made when they are asked for; no two are alike."""

    def get(self, name: str) -> bytes | None:
        """A small JPEG of shapes, with a patch of noise that no other picture has."""
        seed = int(name.removesuffix(".jpg"))
        rgb = drawing(seed, 480, 270).rgb()
        rgb[:16, :16] = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        return bytes(cv2.imencode(".jpg", rgb[:, :, ::-1])[1])


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=PICTURES)
    arguments = parser.parse_args()
    count = arguments.pictures
    report = Report(
        f"Memory of a worker over {count:,} distinct pictures",
        conditions={
            "checkpoint": "demo",
            "requests": "a click and a further click on each",
            "EMBEDDING_MEMORY_BYTES": EMBEDDING_MEMORY_BYTES,
        },
    )
    files: Mapping[str, bytes] = ManyPictures()  # type: ignore[assignment]  # nothing but get() is asked of it
    with uploads(files) as host, tempfile.TemporaryDirectory() as folder:
        environment = {
            "LABEL_STUDIO_URL": host,
            "LABEL_STUDIO_API_KEY": "benchmark",
            "LOG_LEVEL": "WARNING",
            "WORKERS": "1",
            "WARM_AHEAD": "0",
            "REDIS_URL": "",
            "EMBEDDING_MEMORY_BYTES": str(EMBEDDING_MEMORY_BYTES),
        }
        with start_backend(Path(folder) / "log", env=environment) as server:
            (worker,) = children(server._process.pid)  # noqa: SLF001 - nobody else needs to know it
            click_on_each(server.url, worker, count, report)
    report.publish(arguments.json)


def click_on_each(url: str, worker: int, count: int, report: Report) -> None:
    """Ask about one picture after another, and look at the memory on the way."""
    annotator, began = Annotator(url), time.perf_counter()
    seen_mib: dict[int, float] = {}
    report.add("resident before the first picture", resident_mib(worker), "MiB")
    looks = {round(count * part) for part in LOOKS}
    for number in range(count):
        first, further = keypoint(22, 39), keypoint(25, 45)
        for prompts in ([first], [first, further]):
            annotator.predict(request_body([f"{number}.jpg"], prompts))
        if number + 1 in looks:
            seen_mib[number + 1] = resident_mib(worker)
            report.add(f"resident after {number + 1:,} pictures", seen_mib[number + 1], "MiB")
            print(f"{number + 1} pictures: {seen_mib[number + 1]:.1f} MiB", flush=True)
    full_at = round(count * FULL_AT)
    metrics = httpx.get(f"{url}/metrics").text
    report.add("pictures encoded", value_of('sam3_embedding_lookups_total{outcome="made"}', metrics), "", least=count)
    kept_mib = value_of("sam3_embedding_bytes", metrics) / 1024**2
    report.add("embeddings kept at the end", kept_mib, "MiB", most=EMBEDDING_MEMORY_BYTES / 1024**2)
    each_mib = kept_mib / value_of("sam3_embeddings", metrics)
    report.add("one embedding", each_mib, "MiB")
    growth_mib = seen_mib[count] - seen_mib[full_at]
    report.add(f"growth over the last {count - full_at:,} pictures", growth_mib, "MiB", most=MOST_GROWTH_MIB)
    report.add("… had their embeddings been kept", each_mib * (count - full_at), "MiB")
    report.add("a picture, all in all", 1000 * (time.perf_counter() - began) / count, "ms")


def value_of(series: str, metrics: str) -> float:
    """One number of Prometheus' text format."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/metrics lacks {series}")
    return float(found.group(1))


def children(parent: int) -> Iterator[int]:
    """The processes that a process started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # The name, in brackets, may hold blanks; behind it come the state and the parent.
        if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
            yield int(stat.parent.name)


def resident_mib(process: int) -> float:
    """A process's memory that is in RAM."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


if __name__ == "__main__":
    main()
