"""Redis' password enters a real server and never leaves it, not even where Redis is lost and found again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.studio.backend import start_backend
from tests.e2e.test_server import batch, click, picture_uri, setup
from tests.local_redis import Redis

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

SECRET = "hun:t/e?r#2@%"
QUOTED = "hun%3At%2Fe%3Fr%232%40%25"
TRACES = (SECRET, QUOTED, "hun:t", "hun%3A", "e?r#2", "e%3Fr")
"""The password as it is, as the address has it, and parts that a half-parsed address would show."""


class Visitor:
    """Somebody who asks a server everything, about a picture nobody knows yet, and keeps what is answered."""

    def __init__(self, url: str, log: Path) -> None:
        self.answers: list[httpx.Response] = []
        self._log = log
        self._shades = iter(range(250))
        self._url = url

    def asks_until(self, words: str) -> None:
        """Ask until the log holds these words: after a failure Redis is left alone for a while."""
        deadline = time.monotonic() + 60
        while words not in self._log.read_text():
            assert time.monotonic() < deadline, words
            self.asks()

    def asks(self) -> None:
        """One request of every kind, some of them bad ones."""
        task = {"id": 1, "data": {"image": picture_uri(next(self._shades))}}
        with httpx.Client(base_url=self._url, timeout=100) as client:
            predicted = client.post("/predict", json=click() | {"tasks": [task]})
            assert len(predicted.raise_for_status().json()["results"]) == 1
            self.answers += [
                predicted,
                client.post("/predict", json=batch(2)),
                client.post("/predict", content=b"{", headers={"Content-Type": "application/json"}),
                client.post("/setup", json=setup()),
                client.post("/setup", json={"schema": "<View/>"}),
                client.post("/webhook", json={"action": "ANNOTATION_CREATED"}),
                *(client.get(path) for path in ("/", "/health", "/ready", "/versions", "/nowhere", "/metrics")),
            ]


def test_the_password_of_redis_is_in_no_answer_and_no_log_line(tmp_path: Path) -> None:
    redis, log = Redis(tmp_path, password=SECRET), tmp_path / "log"
    settings = {"MODEL_CHECKPOINT": "demo", "REDIS_URL": redis.url, "LOG_LEVEL": "DEBUG"}
    try:
        with start_backend(log, env=settings) as server:
            visitor = Visitor(server.url, log)
            visitor.asks()
            admin = redis.client
            assert admin.keys("*embedding*") != []  # the password was used
            redis.stop()
            visitor.asks_until("Redis does not answer as it should")
            redis.start()
            visitor.asks_until("Redis answers again")
            admin.config_set("requirepass", "another")
            admin.client_kill_filter(_type="normal", skipme=True)
            visitor.asks_until("user or password that Redis does not know")
            visitor.asks()
    finally:
        redis.stop()
    assert "sam3_redis_faults_total 0.0" not in visitor.answers[-1].text
    said = [log.read_text(), *(f"{answer.headers} {answer.text}" for answer in visitor.answers)]
    assert [trace for trace in TRACES for each in said if trace in each] == []
