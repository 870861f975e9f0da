"""The server as its users start it: real processes, a real port, the demo checkpoint."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from examples.studio.processes import free_port
from sam3_backend.label_studio import rle

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

COMMAND = str(Path(sys.executable).with_name("sam3-backend"))
START_S = 180
WIDTH_PX, HEIGHT_PX = 640, 480
SQUARE_XYXY_PX = (200, 120, 420, 340)

LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="blue square"/></BrushLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="blue square"/></KeyPointLabels>
</View>
"""


class RunningServer:
    """A server process, watched from the moment it starts."""

    def __init__(self, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.refusals = 0
        with log.open("wb") as output:
            environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(self.port), **settings}
            self.process = subprocess.Popen([COMMAND, "serve"], env=environment, stdout=output, stderr=output)

    def wait_until_it_accepts(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                self.refusals += 1
                time.sleep(0.1)
            else:
                return
        pytest.fail(f"The server did not start:\n{self.log.read_text()}")

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def metric(self, series: str) -> float:
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return next((float(each.rpartition(" ")[2]) for each in lines if each.startswith(series + " ")), 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            for pid in [*self.workers(), self.process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server") / "log") as running:
        running.wait_until_it_accepts()
        yield running


def picture_uri(shade: int = 235) -> str:
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (shade, shade, shade))
    x1, y1, x2, y2 = SQUARE_XYXY_PX
    ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=(25, 40, 220))
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def batch(count: int) -> dict[str, Any]:
    """A request for predictions of ``count`` different pictures."""
    tasks = [{"id": number, "data": {"image": picture_uri(255 - number % 40)}} for number in range(count)]
    return {"tasks": tasks, "project": "1.1", "label_config": LABEL_CONFIG, "params": {"context": None}}


def click() -> dict[str, Any]:
    x, y = (SQUARE_XYXY_PX[0] + SQUARE_XYXY_PX[2]) / 2, (SQUARE_XYXY_PX[1] + SQUARE_XYXY_PX[3]) / 2
    value = {"x": 100 * x / WIDTH_PX, "y": 100 * y / HEIGHT_PX, "width": 0.5, "keypointlabels": ["blue square"]}
    region = {"id": "a", "type": "keypointlabels", "from_name": "point", "to_name": "image", "value": value}
    region |= {"is_positive": True, "original_width": WIDTH_PX, "original_height": HEIGHT_PX}
    return batch(1) | {"params": {"context": {"result": [region]}}}


def setup() -> dict[str, Any]:
    return {"project": "1.1", "schema": LABEL_CONFIG, "hostname": "", "access_token": "", "extra_params": None}


def test_the_port_is_closed_until_the_model_is_warm(server: RunningServer) -> None:
    assert server.refusals > 0
    assert httpx.get(f"{server.url}/ready").json() == {"ready": True}


def test_the_demo_checkpoint_says_loudly_what_it_is(server: RunningServer) -> None:
    health = httpx.get(f"{server.url}/health").json()
    assert health["status"] == "UP"
    assert health["demo"] is True
    assert "demo" in health["model_version"]
    assert "DEMO" in health["notice"]
    assert "DEMO" in server.log.read_text()


def test_a_click_comes_back_as_the_object_under_it(server: RunningServer) -> None:
    answer = httpx.post(f"{server.url}/predict", json=click(), timeout=100).json()
    (prediction,) = answer["results"]
    brushes = [each for each in prediction["result"] if each["type"] == "brushlabels"]
    assert [each["value"]["brushlabels"] for each in brushes] == [["blue square"]]
    found = rle.decode(brushes[0]["value"]["rle"], WIDTH_PX, HEIGHT_PX)
    x1, y1, x2, y2 = SQUARE_XYXY_PX
    truth = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    truth[y1:y2, x1:x2] = True
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_health_and_setup_are_answered_in_label_studios_time_while_predicting(server: RunningServer) -> None:
    before = server.metric('sam3_requests_total{route="/predict",status="200"}')
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(httpx.post, f"{server.url}/predict", json=batch(20), timeout=100) for _ in range(2)]
        asked = 0
        while not all(each.done() for each in running):
            # These are the time-outs that Label Studio itself sets.
            assert httpx.get(f"{server.url}/health", timeout=1).status_code == 200
            assert httpx.post(f"{server.url}/setup", json=setup(), timeout=3).status_code == 200
            asked += 1
            time.sleep(0.02)
        assert asked > 3
        assert [len(each.result().json()["results"]) for each in running] == [20, 20]
    assert server.metric('sam3_requests_total{route="/predict",status="200"}') == before + 2


def test_metrics_tell_stages_and_where_embeddings_came_from(server: RunningServer) -> None:
    made = server.metric('sam3_embedding_lookups_total{outcome="made"}')
    hits = server.metric('sam3_embedding_lookups_total{outcome="hit"}')
    for _ in range(2):
        body = click() | {"tasks": [{"id": 1, "data": {"image": picture_uri(100)}}]}
        assert httpx.post(f"{server.url}/predict", json=body, timeout=100).status_code == 200
    assert server.metric('sam3_embedding_lookups_total{outcome="made"}') == made + 1
    assert server.metric('sam3_embedding_lookups_total{outcome="hit"}') == hits + 1
    for stage in ("download", "decode", "encode", "prompt", "regions"):
        assert server.metric(f'sam3_stage_seconds_count{{stage="{stage}"}}') > 0
    assert server.metric("sam3_embedding_bytes") > 0


def test_a_worker_that_dies_is_replaced_by_a_warm_one(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "log") as server:
        server.wait_until_it_accepts()
        (first,) = server.workers()
        os.kill(first, signal.SIGKILL)
        assert httpx.get(f"{server.url}/ready", timeout=START_S).status_code == 200
        (second,) = server.workers()
        assert second != first


def test_a_stopping_server_finishes_what_it_was_asked(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "log") as server:
        server.wait_until_it_accepts()
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{server.url}/predict", json=batch(30), timeout=100))
        )
        asking.start()
        while not server.metric("sam3_predictions_running"):
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        asking.join(100)
        assert len(answers[0].json()["results"]) == 30
        assert server.process.wait(60) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_two_workers_add_up_their_numbers(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "log", WORKERS="2", OMP_NUM_THREADS="1") as server:
        server.wait_until_it_accepts()
        while server.log.read_text().count("Ready on") < 2:
            time.sleep(0.1)
        for _ in range(20):
            assert httpx.get(f"{server.url}/versions").status_code == 200
        assert server.metric('sam3_requests_total{route="/versions",status="200"}') == 20


def failing_start(**settings: str) -> tuple[int, list[str]]:
    """Exit code and printed lines of a server that cannot start."""
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", **settings}
    ended = subprocess.run(
        [COMMAND, "serve"], env=environment, capture_output=True, text=True, timeout=START_S, check=False
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.splitlines()


def test_a_checkpoint_that_is_not_there_ends_the_server_with_one_line() -> None:
    code, lines = failing_start(MODEL_CHECKPOINT="/nowhere/sam3.pt")
    assert code == 1
    assert len(lines) == 1
    assert "/nowhere/sam3.pt" in lines[0]


def test_a_loaded_server_has_little_to_look_through_for_garbage() -> None:
    script = (
        "import gc; from sam3_backend.server.assembly import build_app; from sam3_backend.settings import Settings;"
        "app = build_app(Settings()); print(gc.get_freeze_count(), len(gc.get_objects()))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    frozen, watched = map(int, done.stdout.split())
    assert frozen > 100_000 > 100 * watched


def test_every_bad_setting_is_named_at_once() -> None:
    code, lines = failing_start(DTYPE="int3", THREADS="none")
    assert code == 1
    assert len(lines) == 3
    assert any(line.strip().startswith("DTYPE:") for line in lines)
    assert any(line.strip().startswith("THREADS:") for line in lines)


def test_a_port_in_use_ends_the_server_with_one_line(server: RunningServer) -> None:
    code, lines = failing_start(PORT=str(server.port))
    assert code == 1
    assert len(lines) == 1
    assert str(server.port) in lines[0]
