"""``sam3-backend preannotate`` against a real Label Studio."""

from __future__ import annotations

import base64
import io
import logging
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from examples.studio.pictures import Drawing, Shape
from tests.local_http import content, serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from http.server import BaseHTTPRequestHandler

    from examples.studio.label_studio import Project, Studio

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red"/><Label value="blue"/></BrushLabels>
</View>"""
REAL = [str(Path(sys.executable).with_name("sam3-backend"))]
CHEAP = [sys.executable, "-m", "tests.e2e.cheap_preannotate"]
KILLS = 20


def start(
    program: Sequence[str],
    project: Project,
    folder: Path,
    *options: str,
    command: Sequence[str] = ("preannotate",),
    more: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Begin to pre-annotate a project, or what another command says."""
    settings = {
        "LABEL_STUDIO_URL": project.studio.url,
        "LABEL_STUDIO_API_KEY": project.studio.token,
        "MODEL_CHECKPOINT": "demo",
        "REDIS_URL": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "IMAGE_ALLOW_PRIVATE_HOSTS": "true",
        **more,
    }
    arguments = [*program, *command, "--project", str(project.id), *options]
    return subprocess.Popen(
        arguments, env={**os.environ, **settings}, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run(command: Sequence[str], project: Project, folder: Path, *more: str) -> tuple[int, str]:
    """Pre-annotate to the end: exit code and what was said."""
    process = start(command, project, folder, *more)
    said, warned = process.communicate(timeout=300)
    return process.returncode, said + warned


def tiny_picture(number: int) -> str:
    """A picture that travels in its own address: a red patch, and a blue one for every other number."""
    pixels = np.full((24, 32, 3), 230, dtype=np.uint8)
    pixels[4:14, 3 : 13 + number % 7] = (200, 20, 20)
    if number % 2:
        pixels[15:22, 20:30] = (20, 20, 200)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def tiny_project(studio: Studio, tasks: int) -> tuple[Project, list[int]]:
    project = studio.create_project("to be pre-annotated", LABEL_CONFIG, predict_on_open=False)
    return project, project.add_tasks([{"image": tiny_picture(number)} for number in range(tasks)])


def versions_of(project: Project) -> Counter[tuple[int, str]]:
    """How many predictions each task holds, by task and model version; read from Label Studio's own database."""
    stored = project.studio.call("GET", "/api/predictions/", params={"task__project": project.id})
    return Counter((each["task"], each["model_version"]) for each in stored)


def test_killed_at_random_moments_a_run_loses_nothing_and_writes_nothing_twice(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 400)
    chance = random.Random(7)  # noqa: S311
    caught_sending = kills = 0
    for _ in range(KILLS):
        process = start(CHEAP, project, tmp_path, "--chunk", "4", "--journal", "run.sqlite3")
        assert process.stderr is not None
        line = process.stderr.readline()  # the work begins now
        assert "400 tasks" in line, line + process.stderr.read()
        time.sleep(chance.uniform(0.0, 1.2))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        caught_sending += "sending" in states(tmp_path / "run.sqlite3")
    unfinished = len(tasks) - len(versions_of(project))
    code, said = run(CHEAP, project, tmp_path, "--chunk", "20", "--journal", "run.sqlite3")
    assert code == 0, said
    held = versions_of(project)
    summary = f"{kills} kills, {caught_sending} with a chunk on its way, {unfinished} tasks left after the last"
    logging.getLogger(__name__).info(summary)
    assert caught_sending >= KILLS // 4, summary  # else the moments were no good
    assert {task for task, _ in held} == set(tasks)
    assert set(held.values()) == {1}
    assert len({version for _, version in held}) == 1
    assert journalled_objects(tmp_path / "run.sqlite3") == sum(1 + number % 2 for number in range(400))


def journalled_objects(journal: Path) -> int:
    """How many objects the statistics know of."""
    with closing(sqlite3.connect(journal)) as file:
        ((objects,),) = file.execute("SELECT COUNT(*) FROM found_written")
    return int(objects)


def states(journal: Path) -> set[str]:
    if not journal.exists():
        return set()
    with closing(sqlite3.connect(journal)) as file:
        try:
            return {state for (state,) in file.execute("SELECT DISTINCT state FROM tasks")}
        except sqlite3.OperationalError:  # killed before there were tables
            return set()


def test_what_fails_is_listed_and_tried_again_when_asked(studio: Studio, tmp_path: Path) -> None:
    project, _ = tiny_project(studio, 3)
    (broken,) = project.add_tasks([{"image": "data:image/png;base64,AAAA"}])
    code, said = run(CHEAP, project, tmp_path)
    assert (code, "3 predicted, 0 had been already, 1 failed, 0 left" in said) == (1, True), said
    assert f"Task {broken}: " in said
    assert run(CHEAP, project, tmp_path)[0] == 1
    project.studio.call("PATCH", f"/api/tasks/{broken}/", json={"data": {"image": tiny_picture(9)}})
    code, said = run(CHEAP, project, tmp_path, "--retry-failed")
    assert (code, "4 predicted" in said) == (0, True), said
    assert set(versions_of(project).values()) == {1}


def test_tasks_that_hold_the_version_are_left_alone_and_new_ones_are_found(studio: Studio, tmp_path: Path) -> None:
    project, _ = tiny_project(studio, 3)
    assert run(CHEAP, project, tmp_path)[0] == 0
    project.add_tasks([{"image": tiny_picture(4)}])
    code, said = run(CHEAP, project, tmp_path, "--journal", "another.sqlite3")
    assert (code, "1 predicted, 3 had been already" in said) == (0, True), said
    code, said = run(CHEAP, project, tmp_path)
    assert (code, "3 predicted, 1 had been already, 0 failed" in said) == (0, True), said
    assert set(versions_of(project).values()) == {1}


def test_tasks_are_chosen_by_filter_tab_limit_and_annotations(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 6)
    studio.call("POST", f"/api/tasks/{tasks[0]}/annotations/", json={"result": []})
    tab = studio.call(
        "POST",
        "/api/dm/views/",
        json={
            "project": project.id,
            "data": {
                "filters": {
                    "conjunction": "and",
                    "items": [{"filter": "filter:tasks:id", "operator": "less", "type": "Number", "value": tasks[5]}],
                }
            },
        },
    )
    chosen = ["--view", str(tab["id"]), "--filter", f"id greater {tasks[1]}"]
    code, said = run(CHEAP, project, tmp_path, *chosen, "--limit", "2")
    assert (code, {task for task, _ in versions_of(project)}) == (0, {tasks[2], tasks[3]}), said
    code, said = run(CHEAP, project, tmp_path, "--only-unlabeled")
    assert (code, {task for task, _ in versions_of(project)}) == (0, set(tasks[1:])), said


def test_two_runs_at_a_time_on_one_machine_are_refused(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 3)
    (tmp_path / "elsewhere").mkdir()
    with late_picture() as (address, asked, may_answer):
        tasks += project.add_tasks([{"image": address}])
        first = start(CHEAP, project, tmp_path)
        assert asked.wait(60)
        code, said = run(CHEAP, project, tmp_path / "elsewhere")
        assert (code, "Another process on this machine is storing" in said) == (1, True), said
        may_answer.set()
        first.communicate(timeout=120)
    assert Counter(task for task, _ in versions_of(project)) == Counter(tasks)


def test_two_runs_at_a_time_on_two_machines_store_every_prediction_once(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 120)
    runs = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()  # where the lock is that a machine's processes share
        runs.append(start(CHEAP, project, tmp_path / name, "--chunk", "10", more={"TMPDIR": str(tmp_path / name)}))
    for process in runs:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    held = versions_of(project)
    assert {task for task, _ in held} == set(tasks)
    assert set(held.values()) == {1}


def test_predictions_in_shards_are_stored_later_and_once(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 6)
    code, said = run(CHEAP, project, tmp_path, "--shards", "kept")
    assert (code, "sam3-backend import" in said) == (0, True), said
    assert not versions_of(project)
    assert run(CHEAP, project, tmp_path, "--limit", "2")[0] == 0
    for _ in range(2):
        process = start(CHEAP, project, tmp_path, command=("import", "kept"))
        _, said = process.communicate(timeout=120)
        # Two by the run before, whose journal it goes on with.
        assert (process.returncode, "6 predicted, 0 had been already, 0 failed" in said) == (0, True), said
    assert Counter(task for task, _ in versions_of(project)) == Counter(tasks)
    other, _ = tiny_project(studio, 1)
    process = start(CHEAP, other, tmp_path, command=("import", "kept"))
    _, said = process.communicate(timeout=120)
    assert (process.returncode, "has no predictions for" in said) == (2, True), said


def test_texts_on_the_command_line_are_another_version(studio: Studio, tmp_path: Path) -> None:
    project, (task,) = tiny_project(studio, 1)
    assert run(CHEAP, project, tmp_path, "--text", "blue=red,green")[0] == 0
    assert run(CHEAP, project, tmp_path)[0] == 0
    stored = project.studio.call("GET", "/api/predictions/", params={"task": task})
    assert [[region["value"]["brushlabels"] for region in each["result"]] for each in stored] in (
        [[["blue"]], [["red"]]],
        [[["red"]], [["blue"]]],
    )
    assert len({each["model_version"] for each in stored}) == 2
    code, said = run(CHEAP, project, tmp_path, "--text", "yellow=lemon")
    assert (code, '"yellow" is none of the labels "red", "blue"' in said) == (2, True), said


@contextmanager
def late_picture() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """The address of a picture that comes late, what is set when it is asked for, and what lets it come."""
    asked, may_answer = threading.Event(), threading.Event()

    def late(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        may_answer.wait(60)
        content(base64.b64decode(tiny_picture(3).partition(",")[2]))(handler)

    with serve() as host:
        host.routes["/late.png"] = late
        yield host.base + "/late.png", asked, may_answer


def test_a_task_that_vanishes_costs_no_other_one_its_prediction(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 11)
    with late_picture() as (address, asked, may_answer):
        tasks += project.add_tasks([{"image": address}])
        process = start(CHEAP, project, tmp_path, "--chunk", "12")
        assert asked.wait(60)
        studio.call("DELETE", f"/api/tasks/{tasks[4]}/")
        may_answer.set()
        _, said = process.communicate(timeout=120)
    assert (process.returncode, f"Task {tasks[4]}: " in said) == (1, True), said
    assert {task for task, _ in versions_of(project)} == set(tasks) - {tasks[4]}


def test_told_to_stop_it_writes_what_it_has_and_goes_on_later(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 5)
    with late_picture() as (address, asked, may_answer):
        tasks += project.add_tasks([{"image": address}])
        process = start(CHEAP, project, tmp_path, "--chunk", "12", "--parallel", "1")
        assert asked.wait(60)
        process.terminate()
        while len(versions_of(project)) < 5:  # written before the picture comes
            assert process.poll() is None
            time.sleep(0.05)
        may_answer.set()
        _, said = process.communicate(timeout=120)
        assert (process.returncode, "Stopped." in said, "5 predicted" in said, "1 left" in said) == (
            1,
            True,
            True,
            True,
        )
        code, said = run(CHEAP, project, tmp_path)
    assert code == 0, said
    assert Counter(task for task, _ in versions_of(project)) == Counter(tasks)


def test_the_real_model_is_killed_and_goes_on_and_its_version_is_the_servers(studio: Studio, tmp_path: Path) -> None:
    config = LABEL_CONFIG.replace("red", "red circle").replace("blue", "blue square")
    project = studio.create_project("with the model", config, predict_on_open=False)
    drawings = [
        Drawing((Shape("circle", "red", (200 + 9 * number, 200), 100), Shape("square", "blue", (600, 400), 90)))
        for number in range(8)
    ]
    tasks = project.upload({f"{number}.png": each.png() for number, each in enumerate(drawings)})
    process = start(REAL, project, tmp_path, "--chunk", "1")
    while not versions_of(project):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.kill()
    process.communicate()
    code, said = run(REAL, project, tmp_path)
    assert (code, "This is the DEMO checkpoint" in said) == (0, True), said
    held = versions_of(project)
    assert ({task for task, _ in held}, set(held.values())) == (set(tasks), {1})
    (stored,) = studio.call("GET", "/api/predictions/", params={"task": tasks[0]})
    assert {region["value"]["brushlabels"][0] for region in stored["result"]} == {"blue square", "red circle"}


def test_a_dry_run_draws_and_stores_nothing(studio: Studio, tmp_path: Path) -> None:
    project, tasks = tiny_project(studio, 5)
    code, said = run(CHEAP, project, tmp_path, "--dry-run", "--sample", "3", "--overlay-dir", "looks")
    assert code == 0, said
    drawn = sorted(path.name for path in (tmp_path / "looks").iterdir())
    assert drawn == sorted(f"task-{tasks[place]}.png" for place in (0, 1, 3))
    assert f"Task {tasks[0]}: 1 red, drawn in looks/task-{tasks[0]}.png" in said
    assert not versions_of(project)
    assert not list(tmp_path.glob("*.sqlite3"))
