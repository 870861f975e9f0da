"""Two real worker processes and one real Redis: no picture is encoded twice, no click decoded twice."""

from __future__ import annotations

import base64
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.studio.backend import start_backend
from examples.studio.pictures import Drawing, Shape
from sam3_backend.label_studio import rle
from tests.local_redis import Redis
from tests.overlap import iou

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.studio.processes import Server

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red circle"/></BrushLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="red circle"/></KeyPointLabels>
</View>"""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """What the workers share."""
    running = Redis(tmp_path_factory.mktemp("redis"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def server(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers."""
    settings = {"WORKERS": "2", "OMP_NUM_THREADS": "1", "REDIS_URL": redis.url, "MODEL_CHECKPOINT": "demo"}
    with start_backend(tmp_path_factory.mktemp("shared") / "log", env=settings) as running:
        yield running


def click(url: str, drawing: Drawing, *spots_px: tuple[int, int]) -> list[int]:
    """Clicks on one object, over a connection of its own; the mask's RLE."""
    spots = [
        {
            "id": uuid.uuid4().hex,  # as the page does: nobody takes the place of somebody else's
            "type": "keypointlabels",
            "from_name": "point",
            "to_name": "image",
            "value": {
                "x": 100 * x / drawing.width_px,
                "y": 100 * y / drawing.height_px,
                "keypointlabels": ["red circle"],
            },
        }
        for x, y in spots_px
    ]
    picture = "data:image/png;base64," + base64.b64encode(drawing.png()).decode()
    body = {
        "tasks": [{"id": 1, "data": {"image": picture}}],
        "project": "1.1",
        "label_config": LABEL_CONFIG,
        "params": {"context": {"result": spots}},
    }
    answer = httpx.post(f"{url}/predict", json=body, timeout=60).raise_for_status().json()
    stream: list[int] = answer["results"][0]["result"][0]["value"]["rle"]
    return stream


def lookups(url: str, outcome: str, of: str = "embedding") -> int:
    text = httpx.get(f"{url}/metrics").text
    found = re.search(rf'sam3_{of}_lookups_total{{outcome="{outcome}"}} ([\d.]+)', text)
    return int(float(found.group(1))) if found else 0


def test_what_one_worker_encoded_and_decoded_is_refined_by_the_other_to_the_same_mask(
    server: Server, redis: Redis
) -> None:
    drawing = Drawing((Shape("circle", "red", (300, 300), 120),))
    made, fetched = lookups(server.url, "made"), lookups(server.url, "fetched")
    mask = click(server.url, drawing, (300, 300))  # this worker alone remembers what is refined next
    deadline = time.monotonic() + 10
    while not redis.client.keys("*refinement*"):  # written behind the click's back
        assert time.monotonic() < deadline
    refined = []
    while lookups(server.url, "fetched") == fetched:
        assert len(refined) < 500, "every connection went to the same worker"
        refined.append(click(server.url, drawing, (300, 300), (330, 280)))
    assert lookups(server.url, "made") == made + 1
    assert (lookups(server.url, "fetched", "refinement"), lookups(server.url, "made", "refinement")) == (1, 0)
    assert len({tuple(stream) for stream in refined}) == 1
    assert refined[0] != mask
    truth = drawing.truth("red circle")
    for stream in (mask, refined[-1]):
        found = rle.decode(stream, drawing.width_px, drawing.height_px)
        assert iou(found, truth) > 0.9


def test_ten_annotators_who_open_one_picture_cost_one_encode(server: Server) -> None:
    spots = [(200 + 20 * number, 320) for number in range(8)]
    made = lookups(server.url, "made")
    with ThreadPoolExecutor(10) as annotators:
        for spot in spots:
            drawing = Drawing((Shape("circle", "red", spot, 120),))
            asked = [annotators.submit(click, server.url, drawing, spot) for _ in range(10)]
            assert len({tuple(each.result()) for each in asked}) == 1
    assert lookups(server.url, "made") == made + len(spots)


def test_eight_annotators_on_eight_pictures_each_get_the_object_they_clicked(server: Server) -> None:
    places = [(140 + 240 * column, 160 + 260 * row) for row in range(2) for column in range(4)]
    drawings = [Drawing((Shape("circle", "red", place, 80),), width_px=1000, height_px=600) for place in places]

    def work(place: tuple[int, int], drawing: Drawing) -> list[float]:
        (x, y), truth, overlaps = place, drawing.truth("red circle"), []
        for number in range(12):
            spots = [(x + 3 * number - 18, y), (x, y + 20)]
            stream = click(server.url, drawing, *spots[: 1 + number % 2])  # every other one refines
            found = rle.decode(stream, drawing.width_px, drawing.height_px)
            overlaps.append(iou(found, truth))
        return overlaps

    with ThreadPoolExecutor(len(places)) as annotators:
        for overlaps in annotators.map(work, places, drawings):
            assert min(overlaps) > 0.9
