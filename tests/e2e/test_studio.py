"""``make studio`` as a newcomer runs it, up to Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.studio.label_studio import TOKEN
from examples.studio.processes import answers, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.studio.processes import Server

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def make_studio(backend_url: str, data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program that `make studio` runs, and what it said when it was ready."""
    port = free_port()
    command = [sys.executable, "-m", "examples.studio", "--port", str(port), "--backend", backend_url, "--data", data]
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True
    )
    impatience = threading.Timer(300, process.kill)
    impatience.start()
    said = ""
    try:
        assert process.stdout
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        yield process, said
    finally:
        impatience.cancel()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_studio_shows_a_connected_sample_project_and_leaves_nothing_running(backend: Server, tmp_path: Path) -> None:
    with make_studio(backend.url, tmp_path) as (process, said):
        (address, project) = re.findall(r"Open +(http://\S+?)/projects/(\d+)/data", said)[0]
        with httpx.Client(base_url=address, headers={"Authorization": f"Token {TOKEN}"}, timeout=60) as api:
            (connection,) = api.get("/api/ml/", params={"project": project}).json()
            assert (connection["url"], connection["readable_state"]) == (backend.url, "Connected")
            assert api.get("/api/tasks/", params={"project": project}).json()["total"] == 5
    assert process.returncode == 0
    assert not answers(f"{address}/health")
    assert answers(f"{backend.url}/health"), "a backend that was running before goes on running"
