"""The commands as people type them, on the demo checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam3_backend.label_studio import rle

pytestmark = pytest.mark.e2e

COMMAND = str(Path(sys.executable).with_name("sam3-backend"))
WIDTH_PX, HEIGHT_PX = 800, 600
SQUARE_XYXY_PX, CIRCLE_XYXY_PX = (100, 120, 340, 360), (480, 200, 700, 420)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MODEL_CHECKPOINT": "demo"}
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (235, 235, 235))
    pen = ImageDraw.Draw(image)
    pen.rectangle(SQUARE_XYXY_PX, fill=(25, 40, 220))
    pen.ellipse(CIRCLE_XYXY_PX, fill=(220, 30, 30))
    path = tmp_path_factory.mktemp("picture") / "shapes.png"
    image.save(path)
    return str(path)


def truth(shape: str) -> np.ndarray:
    image = Image.new("1", (WIDTH_PX, HEIGHT_PX))
    pen = ImageDraw.Draw(image)
    (pen.rectangle if shape == "square" else pen.ellipse)(
        SQUARE_XYXY_PX if shape == "square" else CIRCLE_XYXY_PX, fill=1
    )
    return np.asarray(image)


def test_segment_finds_what_is_clicked_boxed_and_named(picture: str, tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "out.json"), "--overlay", str(tmp_path / "out.png")]
    ended = run("segment", picture, "--text", "blue square", "--point", "590,310", *files)
    assert ended.returncode == 0, ended.stderr
    regions = json.loads((tmp_path / "out.json").read_text())["regions"]
    assert [region["label"] for region in regions] == ["blue square", None]
    for region, shape in zip(regions, ("square", "circle"), strict=True):
        mask = rle.decode(region["ls_rle"], WIDTH_PX, HEIGHT_PX)
        assert (mask & truth(shape)).sum() / (mask | truth(shape)).sum() > 0.8
        assert region["area_px"] == mask.sum()
    with Image.open(tmp_path / "out.png") as overlay:
        assert overlay.size == (WIDTH_PX, HEIGHT_PX)


def test_segment_says_in_one_line_that_a_checkpoint_is_missing(picture: str) -> None:
    ended = run("segment", picture, "--text", "car", "--checkpoint", "/nowhere/sam3.pt")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "/nowhere/sam3.pt" in ended.stderr


def test_doctor_describes_the_checkpoint() -> None:
    ended = run("doctor")
    assert ended.returncode in {0, 1}  # somebody may be using the port
    assert "M parameters" in ended.stdout
    assert "SHA-256" in ended.stdout
