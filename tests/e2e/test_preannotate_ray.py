"""``sam3-backend preannotate --engine ray`` on a Ray of this machine, with the real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.studio.pictures import Drawing, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.studio.label_studio import Project, Studio

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red circle"/></BrushLabels>
</View>"""
TASKS = 64


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that they started."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


def actors_of(process: subprocess.Popen[str]) -> list[int]:
    """The actors of a run that hold a model."""
    return [
        pid
        for pid in descendants(process.pid)
        if b"ray::MapWorker(MapBatches(Predict))" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def predicted(project: Project) -> Counter[int]:
    stored = project.studio.call("GET", "/api/predictions/", params={"task__project": project.id})
    return Counter(each["task"] for each in stored)


def test_an_actor_that_is_killed_costs_nothing_and_doubles_nothing(studio: Studio, tmp_path: Path) -> None:
    project = studio.create_project("for two actors", LABEL_CONFIG, predict_on_open=False)
    drawings = [
        Drawing((Shape("circle", "red", (60 + number, 90), 50),), width_px=240, height_px=180)
        for number in range(TASKS)
    ]
    tasks = project.upload({f"{number}.png": each.png() for number, each in enumerate(drawings)})
    settings = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": studio.token, "MODEL_CHECKPOINT": "demo"}
    command = [str(Path(sys.executable).with_name("sam3-backend")), "preannotate", "--project", str(project.id)]
    process = subprocess.Popen(
        [*command, "--engine", "ray", "--actors", "2", "--chunk", "4"],
        env={**os.environ, **settings, "REDIS_URL": "", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while not predicted(project):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        actors = actors_of(process)
        assert len(actors) == 2
        os.kill(actors[0], signal.SIGKILL)
        at_the_kill = len(predicted(project))
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert at_the_kill < TASKS
    assert predicted(project) == Counter(tasks)
