"""Two real worker processes and one real Redis: a picture is encoded once for all of them."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.studio.backend import start_backend
from examples.studio.pictures import Drawing, Shape
from sam3_backend.label_studio import rle
from tests.local_redis import Redis

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red circle"/></BrushLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="red circle"/></KeyPointLabels>
</View>"""
DRAWING = Drawing((Shape("circle", "red", (300, 300), 120),))


def click(url: str) -> list[int]:
    """One click on the circle, over a connection of its own; the mask's RLE."""
    spot = {
        "id": "click",
        "type": "keypointlabels",
        "from_name": "point",
        "to_name": "image",
        "value": {"x": 37.5, "y": 50.0, "keypointlabels": ["red circle"]},
    }
    picture = "data:image/png;base64," + base64.b64encode(DRAWING.png()).decode()
    body = {
        "tasks": [{"id": 1, "data": {"image": picture}}],
        "project": "1.1",
        "label_config": LABEL_CONFIG,
        "params": {"context": {"result": [spot]}},
    }
    answer = httpx.post(f"{url}/predict", json=body, timeout=60).raise_for_status().json()
    stream: list[int] = answer["results"][0]["result"][0]["value"]["rle"]
    return stream


def lookups(url: str, outcome: str) -> int:
    text = httpx.get(f"{url}/metrics").text
    found = re.search(rf'sam3_embedding_lookups_total{{outcome="{outcome}"}} ([\d.]+)', text)
    return int(float(found.group(1))) if found else 0


def test_an_embedding_made_by_one_worker_is_used_by_the_other(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    settings = {"WORKERS": "2", "OMP_NUM_THREADS": "1", "REDIS_URL": redis.url, "MODEL_CHECKPOINT": "demo"}
    try:
        with start_backend(tmp_path / "log", env=settings) as server:
            masks = []
            while lookups(server.url, "fetched") == 0:
                assert len(masks) < 500, "every connection went to the same worker"
                masks.append(click(server.url))
            assert lookups(server.url, "made") == 1
    finally:
        redis.stop()
    truth = DRAWING.truth("red circle")
    for mask in (rle.decode(stream, DRAWING.width_px, DRAWING.height_px) for stream in (masks[0], masks[-1])):
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9
