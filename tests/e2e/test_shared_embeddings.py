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


def click(url: str, *spots_px: tuple[int, int]) -> list[int]:
    """Clicks on one object, over a connection of its own; the mask's RLE."""
    spots = [
        {
            "id": f"click {number}",
            "type": "keypointlabels",
            "from_name": "point",
            "to_name": "image",
            "value": {
                "x": 100 * x / DRAWING.width_px,
                "y": 100 * y / DRAWING.height_px,
                "keypointlabels": ["red circle"],
            },
        }
        for number, (x, y) in enumerate(spots_px)
    ]
    picture = "data:image/png;base64," + base64.b64encode(DRAWING.png()).decode()
    body = {
        "tasks": [{"id": 1, "data": {"image": picture}}],
        "project": "1.1",
        "label_config": LABEL_CONFIG,
        "params": {"context": {"result": spots}},
    }
    answer = httpx.post(f"{url}/predict", json=body, timeout=60).raise_for_status().json()
    stream: list[int] = answer["results"][0]["result"][0]["value"]["rle"]
    return stream


def lookups(url: str, outcome: str) -> int:
    text = httpx.get(f"{url}/metrics").text
    found = re.search(rf'sam3_embedding_lookups_total{{outcome="{outcome}"}} ([\d.]+)', text)
    return int(float(found.group(1))) if found else 0


def test_an_embedding_made_by_one_worker_is_used_by_the_other_and_refined_to_the_same_mask(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    settings = {"WORKERS": "2", "OMP_NUM_THREADS": "1", "REDIS_URL": redis.url, "MODEL_CHECKPOINT": "demo"}
    try:
        with start_backend(tmp_path / "log", env=settings) as server:
            mask = click(server.url, (300, 300))  # this worker alone remembers what is refined next
            refined = []
            while lookups(server.url, "fetched") == 0:
                assert len(refined) < 500, "every connection went to the same worker"
                refined.append(click(server.url, (300, 300), (330, 280)))
            assert lookups(server.url, "made") == 1
    finally:
        redis.stop()
    assert len({tuple(stream) for stream in refined}) == 1
    assert refined[0] != mask
    truth = DRAWING.truth("red circle")
    for stream in (mask, refined[-1]):
        found = rle.decode(stream, DRAWING.width_px, DRAWING.height_px)
        assert (found & truth).sum() / (found | truth).sum() > 0.9
