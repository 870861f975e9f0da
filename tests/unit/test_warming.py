"""What comes next is looked at, at the lowest priority, against a server that speaks Label Studio's task list."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sam3_backend.errors import ImageUnreachable
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.upcoming import OpenTask, annotated_task
from sam3_backend.label_studio.warming import Warmer
from sam3_backend.model.scheduler import Priority
from tests.local_http import content, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam3_backend.images import PictureLocation
    from sam3_backend.model.scheduler import Terms
    from tests.local_http import LocalServer

CONFIG = """<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image" smart="false">
<Label value="left"/></BrushLabels></View>"""
WEBHOOK = Path(__file__).parents[1] / "contract" / "payloads" / "webhook_ANNOTATION_CREATED.json"


class Prepared:
    """Remembers which pictures were looked at."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.priorities: set[Priority] = set()

    def prepare(self, location: PictureLocation, terms: Terms) -> None:
        self.priorities.add(terms.priority)
        if location.url.endswith("broken.png"):
            raise ImageUnreachable("gone")
        self.urls.append(location.url)


@contextmanager
def label_studio(tasks: list[dict[str, Any]], sampling: str = "Sequential sampling") -> Iterator[LocalServer]:
    with serve() as server:
        server.routes["/api/projects/16/"] = content(json.dumps({"sampling": sampling}).encode(), "application/json")
        server.routes["/api/tasks/"] = content(json.dumps({"tasks": tasks}).encode(), "application/json")
        yield server


def task(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "data": {"image": f"/data/upload/1/{name}"}}


def at(number: int) -> OpenTask:
    return OpenTask("16.1795", number, LabelConfig.parse(CONFIG))


def warmer_for(server: LocalServer, prepared: Prepared, ahead: int = 2) -> Warmer:
    return Warmer(prepared, LabelStudioAccess(url=server.base, api_key="key"), ahead)


def test_the_pictures_behind_an_open_task_are_looked_at_with_the_least_priority() -> None:
    prepared = Prepared()
    with label_studio([task(8, "b.png"), task(9, "c.png")]) as server:
        warmer = warmer_for(server, prepared)
        warmer.opened(at(7))
        warmer.wait()
        asked = parse_qs(urlsplit(server.seen[-1].path).query)
    assert prepared.urls == [f"{server.base}/data/upload/1/b.png", f"{server.base}/data/upload/1/c.png"]
    assert prepared.priorities == {Priority.WARM}
    assert (asked["project"], asked["page_size"], asked["include"]) == (["16"], ["2"], ["id,data"])
    behind = json.loads(asked["query"][0])["filters"]["items"][1]
    assert (behind["operator"], behind["value"]) == ("greater", 7)


def test_saying_it_again_costs_nothing() -> None:
    prepared = Prepared()
    with label_studio([task(8, "b.png")]) as server:
        warmer = warmer_for(server, prepared)
        for _ in range(5):
            warmer.opened(at(7))
        warmer.wait()
        assert len(server.seen) == 2


def test_a_picture_that_is_not_to_be_had_does_not_keep_the_next_one_cold() -> None:
    prepared = Prepared()
    tasks = [task(8, "broken.png"), {"id": 9, "data": {}}, task(10, "c.png")]
    with label_studio(tasks) as server:
        warmer = warmer_for(server, prepared)
        warmer.opened(at(7))
        warmer.wait()
    assert [url.rsplit("/", 1)[1] for url in prepared.urls] == ["c.png"]


@pytest.mark.parametrize("sampling", ["Uniform sampling", "Uncertainty sampling"])
def test_where_nobody_can_tell_the_next_task_nothing_is_guessed(sampling: str) -> None:
    prepared = Prepared()
    with label_studio([task(8, "b.png")], sampling=sampling) as server:
        warmer = warmer_for(server, prepared)
        warmer.opened(at(7))
        warmer.wait()
    assert prepared.urls == []


def test_label_studio_out_of_reach_bothers_nobody_and_the_next_task_is_tried_again() -> None:
    prepared = Prepared()
    with label_studio([task(8, "b.png")]) as server:
        warmer = warmer_for(server, prepared)
        answer = server.routes.pop("/api/tasks/")
        warmer.opened(at(6))
        warmer.wait()
        server.routes["/api/tasks/"] = answer
        warmer.opened(at(7))
        warmer.wait()
    assert len(prepared.urls) == 1


def test_it_can_be_switched_off() -> None:
    prepared = Prepared()
    with label_studio([task(8, "b.png")]) as server:
        warmer = warmer_for(server, prepared, ahead=0)
        warmer.opened(at(7))
        warmer.wait()
        assert (server.seen, prepared.urls) == ([], [])


def test_a_recorded_webhook_says_which_task_was_annotated() -> None:
    webhook = json.loads(WEBHOOK.read_text())["body"]
    opened = annotated_task(webhook)
    assert opened is not None
    assert opened.project == "16.1795176323"  # as the same project's /setup and /predict name it
    assert opened.task_id == webhook["task"]["id"]


@pytest.mark.parametrize("webhook", [{}, {"action": "ANNOTATION_CREATED"}, {"action": "ANNOTATION_CREATED", "task": 1}])
def test_a_webhook_that_cannot_be_read_is_about_no_task(webhook: dict[str, Any]) -> None:
    assert annotated_task(webhook) is None
