"""Label Studio's own "Retrieve predictions" for more than can be done while it waits."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING

import pytest

from examples.studio.backend import start_backend
from examples.studio.pictures import Drawing, Shape
from tests.local_http import content, serve

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from examples.studio.label_studio import Studio

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red circle"/></BrushLabels>
</View>"""
SETTINGS = {
    "MODEL_CHECKPOINT": "demo",
    "REDIS_URL": "",
    "LABEL_STUDIO_URL": "",
    "LABEL_STUDIO_API_KEY": "",
    "IMAGE_ALLOW_PRIVATE_HOSTS": "true",
    "IMAGE_TIMEOUT_S": "60",
    "IMAGE_DOWNLOAD_TIMEOUT_S": "60",
    "PREDICT_DEADLINE_S": "20",
}


def picture(x_px: int) -> bytes:
    return Drawing((Shape("circle", "red", (x_px, 90), 50),), width_px=240, height_px=180).png()


def test_pressed_again_it_goes_on_where_it_stopped(studio: Studio, tmp_path: Path) -> None:
    may_answer = threading.Event()

    def late(handler: BaseHTTPRequestHandler) -> None:
        may_answer.wait(60)
        content(picture(140))(handler)

    project = studio.create_project("more than there is time for", LABEL_CONFIG, predict_on_open=False)
    log = tmp_path / "backend.log"
    with serve() as host, start_backend(log, env=SETTINGS) as backend:
        host.routes["/late.png"] = late
        inline = ["data:image/png;base64," + base64.b64encode(picture(x_px)).decode() for x_px in (90, 110)]
        *quick, slow = project.add_tasks([{"image": address} for address in (*inline, host.base + "/late.png")])
        project.connect(backend.url)
        project.retrieve_predictions()
        done = [prediction for task in quick for prediction in project.predictions(task)]
        (unfinished,) = project.predictions(slow)
        version = done[0]["model_version"]
        assert [(len(each["result"]), each["model_version"]) for each in done] == [(1, version)] * 2
        assert (unfinished["result"], unfinished["model_version"].startswith(f"{version}:unfinished: ")) == ([], True)
        assert f"sam3-backend preannotate --project {project.id}" in log.read_text()
        may_answer.set()
        project.retrieve_predictions()
    newest = max(project.predictions(slow), key=lambda each: each["id"])
    assert (len(newest["result"]), newest["model_version"]) == (1, version)
    for task in quick:
        good = [each["id"] for each in project.predictions(task) if each["model_version"] == version]
        assert len(good) == 1
