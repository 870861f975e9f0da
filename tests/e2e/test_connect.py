"""``sam3-backend connect`` and ``doctor`` against a real Label Studio."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from examples.studio.pictures import Drawing, Shape
from sam3_backend import cli

if TYPE_CHECKING:
    from examples.studio.label_studio import Project, Studio
    from examples.studio.processes import Server
    from tests.e2e.labelling_page import LabellingPage

pytestmark = pytest.mark.e2e

POLYGONS = """<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="polygon" toName="image">
    <Label value="circle" background="#f032e6"/>
    <Label value="square" background="#84cc16"/>
  </PolygonLabels>
</View>"""
DRAWING = Drawing((Shape("circle", "red", (250, 290), 150), Shape("square", "blue", (600, 210), 120)))


@pytest.fixture
def project(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that people label by hand so far, and an environment that knows its Label Studio."""
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.token)
    return studio.create_project("By hand so far", POLYGONS, predict_on_open=False)


def connect(project: Project, backend: Server, *more: str) -> int:
    return cli.main(["connect", "--project", str(project.id), "--backend-url", backend.url, *more])


def config_of(project: Project) -> str:
    return str(project.studio.call("GET", f"/api/projects/{project.id}/")["label_config"])


def test_a_project_is_connected_and_explained(project: Project, backend: Server, capsys: Any):
    assert connect(project, backend) == 0
    said = capsys.readouterr().out
    assert 'PolygonLabels "polygon": each object is written here as polygons' in said
    assert "--write-config adds the controls" in said
    (stored,) = project.studio.call("GET", "/api/ml/", params={"project": project.id})
    assert (stored["url"], stored["is_interactive"], stored["state"]) == (backend.url, True, "CO")
    assert stored["model_version"] in said
    assert config_of(project) == POLYGONS


def test_connecting_twice_makes_one_connection(project: Project, backend: Server, capsys: Any):
    assert connect(project, backend) == connect(project, backend, "--title", "Another") == 0
    (stored,) = project.studio.call("GET", "/api/ml/", params={"project": project.id})
    assert stored["title"] == "Another"
    assert "Still connected" in capsys.readouterr().out


def test_a_check_changes_nothing(project: Project, backend: Server, capsys: Any):
    assert connect(project, backend, "--check", "--write-config") == 0
    assert '+  <KeyPointLabels name="point" toName="image" smart="true"' in capsys.readouterr().out
    assert (config_of(project), project.backend_urls()) == (POLYGONS, [])


def test_a_config_is_not_written_without_a_yes(project: Project, backend: Server, capsys: Any):
    assert connect(project, backend, "--write-config") == 1
    assert "add --yes" in capsys.readouterr().out
    assert (config_of(project), project.backend_urls()) == (POLYGONS, [])


def test_a_project_labelled_by_hand_so_far_takes_clicks_after_one_command(
    project: Project, backend: Server, labelling: LabellingPage
):
    assert connect(project, backend, "--write-config", "--yes") == 0
    (task,) = project.upload({"shapes.png": DRAWING.png()})
    labelling.open(project, task, (800, 600))
    labelling.switch_auto_annotation_on()
    labelling.page.locator(".lsf-toolbar button.lsf-tool_smart").first.hover()
    labelling.page.locator('button.lsf-tool_smart[aria-label="key-point-tool"]').click()
    labelling.page.locator(".lsf-label").filter(has_text="circle").nth(1).click()
    labelling.click(250, 290)
    labelling.accept()
    assert [region["type"] for region in labelling.submit()] == ["polygonlabels"]


def test_a_backend_that_label_studio_cannot_reach_is_said_so_with_advice(project: Project, capsys: Any):
    assert cli.main(["connect", "--project", str(project.id), "--backend-url", "http://127.0.0.1:9"]) == 1
    said = capsys.readouterr().err
    assert "health check failed" in said
    assert "does it listen on an address that can be reached" in said


def test_a_project_that_is_not_there_is_said_so(project: Project, backend: Server, capsys: Any):
    assert cli.main(["connect", "--project", "99999", "--backend-url", backend.url]) == 1
    assert "No Project matches" in capsys.readouterr().err


def test_a_config_that_cannot_be_used_is_not_connected(studio: Studio, project: Project, backend: Server, capsys: Any):
    bad = POLYGONS.replace("<PolygonLabels", '<PolygonLabels model_smooth="very"')
    project.studio.call("PATCH", f"/api/projects/{project.id}/", json={"label_config": bad})
    assert connect(project, backend) == 1
    assert 'PolygonLabels "polygon": model_smooth must be a number of pixels' in capsys.readouterr().out
    assert project.backend_urls() == []


def doctor(project: Project, *more: str) -> int:
    return cli.main(["doctor", "--project", str(project.id), *more])


@pytest.fixture
def beside_the_backend(backend: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which the backend runs."""
    monkeypatch.setenv("PORT", backend.url.rpartition(":")[2])


@pytest.mark.usefixtures("beside_the_backend")
def test_the_doctor_looks_both_ways(project: Project, backend: Server, capsys: Any):
    assert doctor(project) == 0
    assert f"Project {project.id} is not connected to a model" in capsys.readouterr().out
    assert connect(project, backend) == 0
    capsys.readouterr()
    assert doctor(project) == 0
    said = capsys.readouterr().out
    assert f"the legacy token of {project.studio.username} is accepted" in said
    assert f'project {project.id} "By hand so far": Label Studio reaches {backend.url}.' in said
    assert "/health took" in said


@pytest.mark.usefixtures("beside_the_backend")
def test_the_doctor_knows_a_personal_access_token(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", project.studio.personal_access_token)
    assert doctor(project) == 0
    assert f"the personal access token of {project.studio.username} is accepted" in capsys.readouterr().out


@pytest.mark.usefixtures("beside_the_backend")
def test_the_doctor_says_what_is_wrong_with_a_token(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "no token")
    assert doctor(project) == 1
    assert "does not accept this server's token" in capsys.readouterr().out


@pytest.mark.usefixtures("beside_the_backend")
def test_the_doctor_says_that_label_studio_has_lost_a_backend(project: Project, capsys: Any):
    with ThreadingHTTPServer(("127.0.0.1", 0), Fleeting) as fleeting:
        threading.Thread(target=fleeting.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{fleeting.server_port}"
        project.connect(url)
        fleeting.shutdown()
    assert doctor(project) == 1
    said = capsys.readouterr().out
    assert f"Label Studio does not reach {url}" in said
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in said


@pytest.mark.usefixtures("beside_the_backend")
def test_the_doctor_passes_on_why_a_backend_refuses_a_project(project: Project, backend: Server, capsys: Any):
    assert connect(project, backend) == 0
    bad = POLYGONS.replace("<PolygonLabels", '<PolygonLabels model_smooth="very"')
    project.studio.call("PATCH", f"/api/projects/{project.id}/", json={"label_config": bad})
    assert doctor(project) == 1
    assert f"{backend.url} refuses the project" in capsys.readouterr().out


class Fleeting(BaseHTTPRequestHandler):
    """A backend that is there when a project is connected."""

    def do_GET(self) -> None:
        self.answer({"status": "UP"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"model_version": "1"})

    def answer(self, body: dict[str, str]) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: Any) -> None:
        pass
