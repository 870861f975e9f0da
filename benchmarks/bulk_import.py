"""What a real Label Studio costs a bulk run: ``python -m benchmarks.bulk_import [--tasks 10000] [--chunk 100]``.

A project with many tasks, listed, and a prediction of three masks stored for each, by the code of ``sam3-backend
preannotate`` without a model. Says what listing and storing cost a task, and how this process's memory grows.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Report, options
from examples.studio.label_studio import Project, Studio
from sam3_backend.bulk import preannotate
from sam3_backend.bulk.journal import Journal
from sam3_backend.bulk.pipeline import outcomes
from sam3_backend.bulk.project import ProjectTasks
from sam3_backend.bulk.work import Done, FoundObject, Task
from sam3_backend.bulk.writer import Writer
from sam3_backend.label_studio import rle
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.label_studio.selection import Selection
from sam3_backend.masks import Mask

ROOT = Path(__file__).parents[1]
CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image" smart="false"><Label value="car"/></BrushLabels></View>"""
FLAG = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"
WIDTH_PX, HEIGHT_PX = 1920, 1080


class Meter:
    """Notes when predictions were stored, and how much memory there was then."""

    def __init__(self) -> None:
        self.written = 0
        self.listed_s = self.began_s = time.perf_counter()
        self.moments: list[tuple[int, float, float]] = []

    def listing(self, tasks: int) -> None:
        """Not needed."""

    def working(self, total: int) -> None:
        """The list is complete."""
        print(f"{total} tasks listed", flush=True)
        self.listed_s = time.perf_counter()

    def failed(self, code: str) -> None:
        """There must be none."""
        raise RuntimeError(code)

    def stored(self, tasks: int) -> None:
        """So many more are stored."""
        self.written += tasks
        resident_mib = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024**2
        self.moments.append((self.written, time.perf_counter(), resident_mib))


def regions() -> list[dict[str, Any]]:
    """Three masks of ordinary size, as Label Studio stores them."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    masks = [Mask.from_array(np.hypot(x - 400 * place, y - 500) < 90 + 60 * place) for place in (1, 2, 3)]
    frame = {"from_name": "brush", "to_name": "image", "type": "brushlabels", "image_rotation": 0, "score": 0.9}
    size = {"original_width": WIDTH_PX, "original_height": HEIGHT_PX}
    values = [{"format": "rle", "rle": rle.encode_mask(mask), "brushlabels": ["car"]} for mask in masks]
    return [frame | size | {"id": f"r{place}", "value": value} for place, value in enumerate(values)]


def measure(studio: Studio, project: Project, chunk: int, folder: Path) -> Meter:
    """Store a prediction for every task of a project."""
    access = LabelStudioAccess(url=studio.url, api_key=studio.token, timeout_s=300)
    version = "sam3-backend/benchmark:0-0"
    prediction = {"result": regions(), "score": 0.9, "model_version": version}
    found = tuple(FoundObject("car", 0.9, 0.02) for _ in range(3))
    tasks = ProjectTasks(access.api(None), project.id, Selection(), version)
    journal = Journal(folder / "run.sqlite3", tasks.place, version)
    meter = Meter()
    writer = Writer(tasks.stored, journal, chunk_tasks=chunk, tell=meter.stored)

    def predict(task: Task) -> Done:
        return Done(task, prediction, found, 0.0)

    preannotate.run(tasks.listing(None), journal, writer, lambda waiting: outcomes(waiting, predict, 8), meter)
    journal.close()
    access.close()
    return meter


def main() -> None:
    """Measure once, in a fresh Label Studio."""
    parser = options(__doc__ or "")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, default=500)
    parser.add_argument("--count-all", action="store_true", help="Label Studio as it starts by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {} if arguments.count_all else {FLAG: "true"}
        with Studio.start(folder / "studio", template=ROOT / ".studio" / "empty.sqlite3", env=env) as studio:
            project = studio.create_project("ten thousand", CONFIG, predict_on_open=False)
            for start in range(0, arguments.tasks, 2000):
                numbers = range(start, min(start + 2000, arguments.tasks))
                project.add_tasks([{"image": f"https://example.com/{number}.jpg"} for number in numbers])
            meter = measure(studio, project, arguments.chunk, folder)
            size_mib = (folder / "studio" / "label_studio.sqlite3").stat().st_size / 1024**2
            held = Counter(
                each["total_predictions"]
                for page in range(1, -(-arguments.tasks // 2000) + 1)
                for each in studio.call(
                    "GET",
                    "/api/tasks/",
                    params={
                        "project": project.id,
                        "page": page,
                        "page_size": 2000,
                        "fields": "task_only",
                        "include": "id,total_predictions",
                    },
                )["tasks"]
            )
    first, last = meter.moments[0], meter.moments[-1]
    how = "as it starts by default" if arguments.count_all else "with the flag for large imports"
    report = Report(f"A real Label Studio, {how}: {arguments.tasks} tasks, 3 masks each, chunks of {arguments.chunk}")
    report.add("tasks with exactly one prediction", held[1], "tasks", least=arguments.tasks)
    report.add("listing", 1000 * (meter.listed_s - meter.began_s) / arguments.tasks, "ms/task")
    report.add("storing, first chunk", 1000 * (first[1] - meter.listed_s) / first[0], "ms/task")
    report.add("storing, all", 1000 * (last[1] - meter.listed_s) / last[0], "ms/task")
    quarter = meter.moments[len(meter.moments) // 4]
    report.add("memory at a quarter", quarter[2], "MiB")
    report.add("memory at the end", last[2], "MiB", most=1.1 * quarter[2])
    report.add("Label Studio's database", 1024 * size_mib / arguments.tasks, "KiB/task")
    report.conditions = {"counts all tasks after each chunk": arguments.count_all}
    report.publish(arguments.json)


if __name__ == "__main__":
    main()
