"""A real Label Studio says that a task was annotated, and the pictures of the next ones are ready."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.studio.pictures import Drawing, Shape

if TYPE_CHECKING:
    from examples.studio.label_studio import Studio
    from examples.studio.processes import Server

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red circle"/></BrushLabels>
</View>"""


def embeddings_made(backend: Server) -> int:
    text = httpx.get(f"{backend.url}/metrics").text
    counted = re.search(r'sam3_embedding_lookups_total\{outcome="made"\} ([\d.]+)', text)
    return int(float(counted.group(1))) if counted else 0


def test_after_an_annotation_the_next_pictures_are_looked_at(studio: Studio, backend: Server) -> None:
    project = studio.create_project("what comes next", LABEL_CONFIG, predict_on_open=False)
    drawings = [Drawing((Shape("circle", "red", (300 + 20 * number, 300), 90),)) for number in range(4)]
    tasks = project.upload({f"next-{number}.png": each.png() for number, each in enumerate(drawings)})
    project.connect(backend.url)
    before = embeddings_made(backend)
    studio.call("POST", f"/api/tasks/{tasks[0]}/annotations/", json={"result": []})
    deadline = time.monotonic() + 60
    while embeddings_made(backend) < before + 2:
        assert time.monotonic() < deadline, "the next two pictures were not looked at"
        time.sleep(0.2)
    assert embeddings_made(backend) == before + 2
