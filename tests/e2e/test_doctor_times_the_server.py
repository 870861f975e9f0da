"""``sam3-backend doctor`` beside a real server, and beside servers that are none: what it says of ``/setup``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from examples.studio.processes import Server, free_port
from sam3_backend.cli import server_checks
from sam3_backend.settings import Settings
from tests.local_http import content, hang_up, never, serve, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam3_backend.cli.finding import Finding
    from tests.local_http import LocalServer

pytestmark = pytest.mark.e2e

CREDENTIALS = {"BASIC_AUTH_USER": "label-studio", "BASIC_AUTH_PASS": "hunter"}
GOOD = '<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i"><Label value="car"/></BrushLabels></View>'
BAD = GOOD.replace("<BrushLabels", '<BrushLabels model_smooth="very"')


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server on the demo checkpoint, with basic auth."""
    settings = {"MODEL_CHECKPOINT": "demo", "REDIS_URL": "", "LABEL_STUDIO_URL": "", "LABEL_STUDIO_API_KEY": ""}
    port, log = free_port(), tmp_path_factory.mktemp("guarded") / "log"
    settings |= {"HOST": "127.0.0.1", "PORT": str(port), **CREDENTIALS}
    command = [str(Path(sys.executable).with_name("sam3-backend")), "serve"]
    with Server("The backend", command, url=f"http://127.0.0.1:{port}", log=log, env=settings) as running:
        running.wait_until_it_answers("/health", 180)  # /ready asks for the credentials
        yield running


@pytest.fixture
def stranger() -> Iterator[LocalServer]:
    """A server of HTTP that is healthy so far."""
    with serve() as local:
        local.routes["/health"] = content(b"{}", "application/json")
        yield local


@pytest.fixture
def studio_api() -> Iterator[LocalServer]:
    """The part of Label Studio's API that hands out projects."""
    with serve() as local:
        for number, config in ((1, GOOD), (2, BAD)):
            body = json.dumps({"id": number, "label_config": config}).encode()
            local.routes[f"/api/projects/{number}/"] = content(body, "application/json")
        yield local


def look(url: str, project: int | None = None, **settings: Any) -> list[Finding]:
    return [*server_checks.look_at_server(Settings(port=int(url.rsplit(":", 1)[1]), **settings), project)]


def credentials() -> dict[str, str]:
    return {name.lower(): value for name, value in CREDENTIALS.items()}


def test_setup_is_timed_as_label_studio_would_ask(guarded: Server) -> None:
    health, setup = look(guarded.url, **credentials())
    assert (health.verdict, setup.subject, setup.verdict) == ("good", "/setup", "good")
    assert "ms for a small config." in setup.words


def test_the_projects_own_config_is_tried_and_its_fault_is_told(guarded: Server, studio_api: LocalServer) -> None:
    access = {"label_studio_url": studio_api.base, "label_studio_api_key": "token", **credentials()}
    _, good = look(guarded.url, 1, **access)
    assert (good.verdict, good.words.partition(" for ")[2]) == ("good", "the labelling config of project 1.")
    _, bad = look(guarded.url, 2, **access)
    assert bad.verdict == "bad"
    assert "model_smooth must be a number of pixels" in bad.words
    assert "connect --project 2 --check" in bad.words
    _, unknown = look(guarded.url, 3, **access)  # that there is no such project is another check's to say
    assert "a small config" in unknown.words


def test_the_server_remembers_nothing_of_the_visit(guarded: Server) -> None:
    look(guarded.url, **credentials())
    log = guarded.log.read_text()
    assert "Project ? is set up" in log
    assert "is now used for" not in log


def test_credentials_that_differ_are_said_so(guarded: Server) -> None:
    for settings in ({}, credentials() | {"basic_auth_pass": "another"}):
        _, setup = look(guarded.url, **settings)
        assert setup.verdict == "bad"
        assert "BASIC_AUTH_USER and BASIC_AUTH_PASS must be here what they are" in setup.words
        assert "another" not in setup.words


def test_a_slow_setup_is_wrong_with_advice(guarded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "SETUP_LIMIT_S", 0.0)
    monkeypatch.setattr(server_checks, "HEALTH_LIMIT_S", 0.0)
    for finding in look(guarded.url, **credentials()):
        assert finding.verdict == "bad"
        assert "give the server a core of its own" in finding.words


def test_a_setup_that_never_answers_is_wrong_with_advice(stranger: LocalServer) -> None:
    stranger.routes["/setup"] = never(stranger)
    _, setup = look(stranger.base)
    assert setup.verdict == "bad"
    assert "does not answer a small config within" in setup.words


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (hang_up, "broke off"),
        (status(404), "Is it a sam3-backend"),
        (status(500, b'{"error": {"code": "internal_error", "message": "Oh."}}'), "Oh. The server's log says more."),
    ],
)
def test_a_setup_that_fails_is_wrong_with_advice(stranger: LocalServer, answer: Any, part: str) -> None:
    stranger.routes["/setup"] = answer
    _, setup = look(stranger.base)
    assert setup.verdict == "bad"
    assert part in setup.words
    sent = json.loads(stranger.seen[-1].body)
    assert {name: sent[name] for name in ("project", "hostname", "access_token")} == dict.fromkeys(
        ("project", "hostname", "access_token"), ""
    )


def test_a_server_that_does_not_run_is_not_timed() -> None:
    with serve() as gone:
        url = gone.base
    (only,) = look(url)
    assert only.verdict == "advice"
    assert "does not run" in only.words
    with pytest.raises(httpx.HTTPError):
        httpx.get(url)
