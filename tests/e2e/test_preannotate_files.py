"""``sam3-backend preannotate --input``: no Label Studio at work, but one that imports what was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sam3_backend.label_studio import rle
from tests.local_http import content, serve

if TYPE_CHECKING:
    from examples.studio.label_studio import Studio

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
WORDS = ["--text", "warm=red", "--text", "cold=blue,green"]


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    settings = {"LABEL_STUDIO_URL": "", "LABEL_STUDIO_API_KEY": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.cheap_preannotate", "preannotate", *options],
        env={**os.environ, **settings, "IMAGE_ALLOW_PRIVATE_HOSTS": "true"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *options: str) -> tuple[int, str]:
    process = start(folder, *options)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def draw(path: Path, number: int) -> None:
    """A picture with a red patch, and a blue one for every other number."""
    pixels = np.full((48, 64, 3), 230, dtype=np.uint8)
    pixels[8:28, 6 : 26 + number] = (200, 20, 20)
    if number % 2:
        pixels[30:44, 40:60] = (20, 20, 200)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(4):
        draw(tmp_path / "pictures" / ("deep down" if number > 1 else ".") / f"{number}.png", number)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_folder_becomes_a_file_that_label_studio_imports(pictures: Path, studio: Studio, tmp_path: Path) -> None:
    code, said = run(tmp_path, "--input", "pictures", "--output", "out.json", *WORDS)
    assert (code, "4 predicted" in said) == (0, True), said
    written = read(tmp_path / "out.json")
    assert [each["data"]["image"] for each in written] == [
        f"/data/local-files/?d={name}" for name in ("0.png", "1.png", "deep%20down/2.png", "deep%20down/3.png")
    ]
    config = (tmp_path / "out.label_config.xml").read_text()
    project = studio.create_project("from a file", config, predict_on_open=False)
    with (tmp_path / "out.json").open("rb") as file:
        imported = studio.call("POST", f"/api/projects/{project.id}/import", files={"out.json": ("out.json", file)})
    assert (imported["task_count"], imported["prediction_count"]) == (4, 4)
    (last,) = studio.call("GET", "/api/predictions/", params={"task__project": project.id})[-1:]
    masks = {each["value"]["brushlabels"][0]: rle.decode(each["value"]["rle"], 64, 48) for each in last["result"]}
    assert (masks["warm"].sum(), masks["cold"].sum()) == (20 * 23, 14 * 20)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_coco_instances_are_read_by_pycocotools(pictures: Path, tmp_path: Path) -> None:
    code, said = run(tmp_path, "--input", "pictures", "--output", "coco.json", "--format", "coco", *WORDS)
    assert code == 0, said
    coco = COCO(tmp_path / "coco.json")
    assert [each["file_name"] for each in coco.loadImgs(coco.getImgIds())] == [
        "0.png",
        "1.png",
        "deep down/2.png",
        "deep down/3.png",
    ]
    assert {each["name"] for each in coco.loadCats(coco.getCatIds())} == {"warm", "cold"}
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == 6
    for each in annotations:
        mask = coco.annToMask(each)
        assert mask.shape == (48, 64)
        assert mask.sum() == each["area"] == coco_mask.area(each["segmentation"])
        assert list(coco_mask.toBbox(each["segmentation"])) == each["bbox"]


def test_tasks_in_a_list_and_in_a_manifest_keep_what_they_are(pictures: Path, tmp_path: Path) -> None:
    with serve() as host:
        host.routes["/far.png"] = content((pictures / "1.png").read_bytes())
        tasks = [
            {"id": 7, "data": {"image": "pictures/0.png", "city": "Oslo"}, "meta": {"a": 1}, "predictions": [{"x": 1}]},
            {"image": host.base + "/far.png"},
        ]
        (tmp_path / "tasks.json").write_text(json.dumps(tasks))
        (tmp_path / "tasks.jsonl").write_text("\n".join(json.dumps(each) for each in tasks) + '\n"pictures/1.png"\n')
        for name, count in (("tasks.json", 2), ("tasks.jsonl", 3)):
            code, said = run(tmp_path, "--input", name, "--output", f"out-{count}.json", *WORDS)
            assert code == 0, said
            written = read(tmp_path / f"out-{count}.json")
            assert written[0]["data"] == tasks[0]["data"]
            assert (written[0]["meta"], written[0]["predictions"][0], "id" in written[0]) == ({"a": 1}, {"x": 1}, False)
            assert [len(each["predictions"][-1]["result"]) for each in written] == [1, 2, 2][:count]


def test_killed_and_begun_again_it_predicts_every_picture_once(tmp_path: Path) -> None:
    for number in range(60):
        draw(tmp_path / "pictures" / f"{number:03}.png", number % 20)
    for pause_s in (0.05, 0.15, 0.3):
        process = start(tmp_path, "--input", "pictures", "--output", "out.json", *WORDS)
        assert process.stdout is not None
        while "60 tasks" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(pause_s)
        process.kill()
        process.communicate()
    code, said = run(tmp_path, "--input", "pictures", "--output", "out.json", *WORDS)
    assert (code, "60 predicted" in said) == (0, True), said
    assert [len(each["predictions"]) for each in read(tmp_path / "out.json")] == [1] * 60
    draw(tmp_path / "pictures" / "one-more.png", 1)
    code, said = run(tmp_path, "--input", "pictures", "--output", "out.json", *WORDS)
    assert (code, "61 predicted" in said, len(read(tmp_path / "out.json"))) == (0, True, 61), said


def test_what_fails_is_in_the_file_without_a_prediction_and_in_the_report(pictures: Path, tmp_path: Path) -> None:
    (pictures / "0.png").write_bytes(b"no picture at all")
    code, said = run(tmp_path, "--input", "pictures", "--output", "out.json", *WORDS)
    assert (code, "0.png: " in said) == (1, True), said
    assert [len(each["predictions"]) for each in read(tmp_path / "out.json")] == [0, 1, 1, 1]
    report = (tmp_path / "out.html").read_text()
    assert "image_undecodable" in report
    assert report.count("data:image/jpeg;base64,") == 3
    draw(pictures / "0.png", 3)
    code, said = run(tmp_path, "--input", "pictures", "--output", "out.json", "--retry-failed", *WORDS)
    assert (code, "4 predicted" in said) == (0, True), said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--input", "pictures", *WORDS], "--input needs --output"),
        (["--input", "pictures", "--output", "o.json"], "Say what to look for"),
        (["--input", "nowhere", "--output", "o.json", *WORDS], "nowhere cannot be read"),
        (["--input", "pictures/notes.txt", "--output", "o.json", *WORDS], "is not JSON"),
        (["--input", "pictures", "--output", "o.json", "--view", "3", *WORDS], "--view does not go with --input"),
        (["--project", "3", "--output", "o.json"], "--output does not go with --project"),
        ([], "one of the arguments --project --input is required"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(pictures: Path, tmp_path: Path, options: list[str], said: str) -> None:
    code, output = run(tmp_path, *options)
    assert (code, said in output) == (2, True), output
