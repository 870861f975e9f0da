"""``sam3-backend preannotate --engine ray`` on a Ray of this machine, with the real model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

from examples.studio.pictures import Drawing, Shape
from sam3_backend.bulk.ray_cluster import ray_cluster, reach
from sam3_backend.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.studio.label_studio import Project, Studio

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red circle"/></BrushLabels>
</View>"""
TASKS = 64
NO_LESS_URGENT = {"RAY_worker_niceness": "0"}
"""Ray's processes give way to all others by default, on a busy machine for minutes."""


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
        env={**os.environ, **NO_LESS_URGENT, **settings, "REDIS_URL": "", "OMP_NUM_THREADS": "1"},
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


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(TASKS):
        drawing = Drawing((Shape("circle", "red", (60 + number, 90), 50),), width_px=240, height_px=180)
        (tmp_path / "pictures" / f"{number:02}.png").write_bytes(drawing.png())
    return tmp_path / "pictures"


def start_into_files(folder: Path, **settings: str) -> subprocess.Popen[str]:
    told = {"LABEL_STUDIO_URL": "", "MODEL_CHECKPOINT": "demo", "REDIS_URL": "", "OMP_NUM_THREADS": "1", **settings}
    command = [str(Path(sys.executable).with_name("sam3-backend")), "preannotate", "--input", "pictures"]
    return subprocess.Popen(
        [*command, "--output", "out.json", "--text", "red circle", "--engine", "ray", "--actors", "2"],
        env={**os.environ, **NO_LESS_URGENT, **told},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def labels(prediction: dict[str, Any]) -> Iterator[str]:
    for region in prediction["result"]:
        yield from region["value"]["brushlabels"]


def numbers_kept(folder: Path) -> list[int]:
    """The tasks of all whole lines in all shards."""
    lines = [line for path in (folder / "out.shards").glob("*.jsonl") for line in path.read_bytes().splitlines(True)]
    return [json.loads(line)["number"] for line in lines if line.endswith(b"\n")]


def wait_for(process: subprocess.Popen[str], folder: Path, kept: int) -> list[int]:
    while len(numbers := numbers_kept(folder)) < kept:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return numbers


def test_actors_keep_their_own_shards_and_no_kill_loses_or_doubles_a_prediction(pictures: Path) -> None:
    folder = pictures.parent
    process = start_into_files(folder)
    drivers = [process.pid]
    try:
        wait_for(process, folder, 8)
        actors = actors_of(process)
        os.kill(actors[0], signal.SIGKILL)
        at_the_kill = wait_for(process, folder, len(numbers_kept(folder)) + 8)
        assert len(set(at_the_kill)) < TASKS
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the process that leads, and all of its Ray
        process.communicate()
    process = start_into_files(folder)
    drivers.append(process.pid)
    said, _ = process.communicate(timeout=300)
    assert (process.returncode, f"{TASKS} predicted" in said) == (0, True), said
    written = json.loads((folder / "out.json").read_text())
    assert [each["data"]["image"][-6:] for each in written] == [f"{number:02}.png" for number in range(TASKS)]
    assert [len(each["predictions"]) for each in written] == [1] * TASKS
    assert {label for each in written for label in labels(each["predictions"][0])} == {"red circle"}
    assert len({each["predictions"][0]["model_version"] for each in written}) == 1
    numbers = numbers_kept(folder)
    assert len(set(numbers)) == TASKS
    writers = [int(path.stem.split("-")[-2]) for path in (folder / "out.shards").glob("*.jsonl")]
    assert len(writers) == len(set(writers)) >= 2  # at least one actor of each run had its turn
    assert not set(writers) & set(drivers)
    assert b"brushlabels" not in (folder / "out.sqlite3").read_bytes()


def test_told_to_stop_it_ends_with_1_and_goes_on_later(pictures: Path) -> None:
    process = start_into_files(pictures.parent)
    try:
        wait_for(process, pictures.parent, 8)
        process.terminate()
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, "Stopped. The same command goes on" in said) == (1, True), said
    assert not (pictures.parent / "out.json").exists()
    process = start_into_files(pictures.parent)
    said, _ = process.communicate(timeout=300)
    assert (process.returncode, f"{TASKS} predicted" in said) == (0, True), said


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"RAY_ADDRESS": "127.0.0.1:9"}, "No Ray answers at 127.0.0.1:9: Connection refused. Start that cluster, set"),
        ({"RAY_ADDRESS": "nonsense"}, "Ray cannot start: Invalid address format: nonsense. Without --engine ray"),
        ({"RAY_TMPDIR": "/proc/none"}, "Ray cannot start: [Errno 2] No such file or directory: '/proc/none'. Without"),
    ],
)
def test_where_ray_cannot_start_one_line_says_why(pictures: Path, settings: dict[str, str], reason: str) -> None:
    process = start_into_files(pictures.parent, **settings)
    said, _ = process.communicate(timeout=120)
    assert (process.returncode, said.count("\n"), said[: len(reason) + 14]) == (1, 1, "sam3-backend: " + reason)
    assert list(pictures.parent.iterdir()) == [pictures]


def test_an_address_at_which_something_else_listens_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(SettingsError, match="tried for 3 s"):
        reach(f"127.0.0.1:{silent.getsockname()[1]}", within_s=3)


def test_without_an_address_it_is_a_ray_of_this_machine_whatever_ran_here_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda address, **_options: asked.append(address))
    monkeypatch.setattr(ray, "shutdown", lambda: asked.append("shutdown"))
    with ray_cluster():
        asked.append("work")
    assert asked == ["local", "work", "shutdown"]


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"pip install '.\[ray\]'"), ray_cluster():
        pytest.fail("there is none")
