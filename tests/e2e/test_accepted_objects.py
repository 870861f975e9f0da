"""What an annotator has accepted is not found again: drafts of the real page, read by the backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from examples.studio.pictures import Drawing, Shape

if TYPE_CHECKING:
    from examples.studio.label_studio import Studio
    from examples.studio.processes import Server
    from tests.e2e.labelling_page import LabellingPage

pytestmark = pytest.mark.e2e

LABEL_CONFIG = Path(__file__).parents[2] / "examples" / "recommended" / "label_config.xml"
DRAWING = Drawing(
    (
        Shape("circle", "red", (200, 190), 110),
        Shape("square", "blue", (560, 210), 130),
        Shape("triangle", "green", (380, 450), 120),
    )
)


@pytest.fixture
def with_a_circle_accepted(studio: Studio, backend: Server, labelling: LabellingPage) -> LabellingPage:
    """The page with a circle in its draft."""
    project = studio.create_project("Accepted already", LABEL_CONFIG.read_text(), predict_on_open=False)
    project.connect(backend.url)
    (task,) = project.upload({"shapes.png": DRAWING.png()})
    labelling.open(project, task, (800, 600))
    labelling.switch_auto_annotation_on()
    labelling.choose("point", "circle")
    labelling.click(200, 190)
    with labelling.page.expect_response(lambda answer: "/drafts" in answer.url and answer.request.method == "POST"):
        labelling.accept()
    return labelling


def test_a_text_that_finds_only_what_is_accepted_says_so(with_a_circle_accepted: LabellingPage):
    page = with_a_circle_accepted
    page.ask("circle")
    expect(page.message).to_contain_text('Nothing new found for "circle"')
    expect(page.suggestions).to_be_hidden()


def test_a_text_finds_what_is_not_accepted_yet(with_a_circle_accepted: LabellingPage):
    page = with_a_circle_accepted
    page.ask("circle; square")
    page.accept()
    labels = [region["value"]["brushlabels"] for region in page.submit() if region["type"] == "brushlabels"]
    assert labels == [["circle"], ["square"]]


def test_a_click_on_an_accepted_object_gets_it_all_the_same(with_a_circle_accepted: LabellingPage):
    page = with_a_circle_accepted
    page.choose("box", "circle")
    page.drag(80, 70, 320, 310)
    expect(page.suggestions).to_be_visible()
