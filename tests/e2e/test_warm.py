"""``sam3-backend warm`` fills a real Redis for a project of a real Label Studio."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.studio.pictures import Drawing, Shape
from tests.local_redis import Redis

if TYPE_CHECKING:
    from examples.studio.label_studio import Project, Studio

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="red circle"/></BrushLabels>
</View>"""


def warm(project: Project, studio: Studio, redis: Redis) -> subprocess.CompletedProcess[str]:
    settings = {
        "REDIS_URL": redis.url,
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        "MODEL_CHECKPOINT": "demo",
    }
    command = [str(Path(sys.executable).with_name("sam3-backend")), "warm", "--project", str(project.id)]
    return subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_picture_of_a_project_is_in_redis_and_what_fails_is_named(studio: Studio, tmp_path: Path) -> None:
    project = studio.create_project("to be warmed", LABEL_CONFIG, predict_on_open=False)
    drawings = [Drawing((Shape("circle", "red", (300 + 20 * number, 300), 90),)) for number in range(3)]
    project.upload({f"warm-{number}.png": each.png() for number, each in enumerate(drawings)})
    redis = Redis(tmp_path)
    try:
        first = warm(project, studio, redis)
        assert first.returncode == 0, first.stderr
        assert "3 encoded, 0 were ready, 0 failed." in first.stderr
        announced = re.search(
            r"3 tasks\. Their embeddings take up to [\d.]+ GB in Redis, ([\d.]+) MB each", first.stderr
        )
        assert announced is not None
        assert announced.end() < first.stderr.index("pictures")  # the progress bar's
        names = redis.client.keys("*embedding*")
        assert [redis.client.memory_usage(each) / 1e6 for each in names] == pytest.approx(
            [float(announced[1])] * 3, abs=0.06
        )
        (broken,) = project.add_tasks([{"image": "/data/upload/1/gone.png"}])
        second = warm(project, studio, redis)
        assert second.returncode == 1
        assert "0 encoded, 3 were ready, 1 failed." in second.stderr
        assert f"Task {broken}: " in second.stderr
    finally:
        redis.stop()


def test_a_redis_that_is_too_small_is_said_to_be_before_it_is_filled_and_does_what_was_said(
    studio: Studio, tmp_path: Path
) -> None:
    project = studio.create_project("too much for Redis", LABEL_CONFIG, predict_on_open=False)
    drawings = [Drawing((Shape("circle", "red", (320 + 20 * number, 280), 80),)) for number in range(4)]
    project.upload({f"first-{number}.png": each.png() for number, each in enumerate(drawings[:2])})
    redis = Redis(tmp_path)
    try:
        assert "Redis has no limit of its own" in warm(project, studio, redis).stderr
        project.upload({f"later-{number}.png": each.png() for number, each in enumerate(drawings[2:])})
        redis.client.config_set("maxmemory", redis.client.info("memory")["used_memory"] + 100_000)
        refused = warm(project, studio, redis)
        assert "room for 0 more of 4 pictures" in refused.stderr
        assert "noeviction: the last 4 will not be stored" in refused.stderr
        assert refused.stderr.index("will not be stored") < refused.stderr.index("pictures ━")  # the progress bar's
        assert "2 embeddings could not be written" in refused.stderr
        assert "2 encoded, 2 were ready, 0 failed." in refused.stderr
        assert refused.returncode == 1
        redis.client.config_set("maxmemory-policy", "allkeys-lru")
        # Room for a third, and for what Redis holds meanwhile for those who read and write at the same time.
        redis.client.config_set("maxmemory", redis.client.info("memory")["used_memory"] + 2_500_000)
        pushing_out = warm(project, studio, redis)
        assert "allkeys-lru: for the others it pushes out what was used longest ago" in pushing_out.stderr
        assert "could not be written" not in pushing_out.stderr
        assert pushing_out.returncode == 0
        assert len(redis.client.keys("*embedding*")) <= 3
    finally:
        redis.stop()
