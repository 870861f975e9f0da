"""The whole path with real parts: what an annotator does on the page, and what Label Studio saves.

Every saved mask is read with the Label Studio SDK's own decoder and held against what was drawn.
"""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from label_studio_sdk.converter.brush import decode_rle
from playwright.sync_api import expect

from examples.studio.pictures import Drawing, Shape
from tests.overlap import iou

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from examples.studio.label_studio import Project, Studio
    from examples.studio.processes import Server
    from tests.e2e.labelling_page import LabellingPage

pytestmark = pytest.mark.e2e

LABEL_CONFIG = Path(__file__).parents[2] / "examples" / "recommended" / "label_config.xml"
GOOD_IOU = 0.9

THREE_SHAPES = Drawing(
    (
        Shape("circle", "red", (200, 190), 110),
        Shape("square", "blue", (560, 210), 130),
        Shape("triangle", "green", (380, 450), 120),
    )
)
TWO_CIRCLES = Drawing(
    (
        Shape("circle", "red", (560, 170), 90),
        Shape("circle", "blue", (590, 440), 100),
        Shape("star", "yellow", (210, 220), 130, 10),
    ),
    background=(96, 108, 104),
)
PORTRAIT = Drawing(
    (Shape("circle", "blue", (200, 220), 120), Shape("star", "red", (400, 560), 130)),
    width_px=600,
    height_px=800,
    background=(200, 204, 190),
)


@pytest.fixture
def project(studio: Studio, backend: Server, request: pytest.FixtureRequest) -> Project:
    """A project of the test's own, connected."""
    project = studio.create_project(request.node.name[:50], LABEL_CONFIG.read_text(), predict_on_open=False)
    project.connect(backend.url)
    return project


@pytest.fixture
def shapes(project: Project, labelling: LabellingPage) -> LabellingPage:
    """The page with three shapes on it and Auto-Annotation on."""
    (task,) = project.upload({"shapes.png": THREE_SHAPES.png()})
    labelling.open(project, task, (800, 600))
    labelling.switch_auto_annotation_on()
    return labelling


def masks(regions: list[dict[str, Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """The brush regions' masks joined by label, (height, width) bool each."""
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for region in regions:
        if region["type"] == "brushlabels":
            rgba = decode_rle(region["value"]["rle"]).reshape(region["original_height"], region["original_width"], 4)
            (label,) = region["value"]["brushlabels"]
            found[label] = found.get(label, False) | (rgba[..., 3] > 0)
    return found


def test_a_click_becomes_a_saved_mask_of_the_object(shapes):
    shapes.choose("point", "circle")
    shapes.click(200, 190)
    shapes.accept()
    saved = shapes.submit()
    assert [region["type"] for region in saved] == ["brushlabels"]
    assert iou(masks(saved)["circle"], THREE_SHAPES.truth("red circle")) > GOOD_IOU


def test_a_negative_click_refines_the_mask_instead_of_adding_one(shapes):
    shapes.choose("point", "square")
    shapes.click(520, 180)
    shapes.choose("point", "square")
    shapes.click(380, 330, negative=True)
    shapes.accept()
    saved = shapes.submit()
    assert [region["type"] for region in saved] == ["brushlabels"]
    mask = masks(saved)["square"]
    assert iou(mask, THREE_SHAPES.truth("blue square")) > GOOD_IOU
    assert not mask[330, 380]


def test_a_box_becomes_a_saved_mask_of_what_it_holds(shapes):
    shapes.choose("box", "triangle")
    shapes.drag(265, 320, 495, 520)
    shapes.accept()
    saved = shapes.submit()
    assert [region["type"] for region in saved] == ["brushlabels"]
    assert iou(masks(saved)["triangle"], THREE_SHAPES.truth("green triangle")) > GOOD_IOU


def test_a_text_becomes_masks_with_the_label_it_means(project, labelling):
    (task,) = project.upload({"circles.png": TWO_CIRCLES.png()})
    labelling.open(project, task, (800, 600))
    labelling.switch_auto_annotation_on()
    labelling.ask("circles")
    labelling.accept()
    found = masks(labelling.submit())
    assert set(found) == {"circle"}
    assert iou(found["circle"], TWO_CIRCLES.truth("circle")) > GOOD_IOU


def test_a_picture_on_its_side_is_masked_as_it_is_shown(project, labelling):
    (task,) = project.upload({"phone.jpg": PORTRAIT.turned_jpeg()})
    labelling.open(project, task, (600, 800))
    labelling.switch_auto_annotation_on()
    labelling.choose("point", "star")
    labelling.click(400, 560)
    labelling.accept()
    assert iou(masks(labelling.submit())["star"], PORTRAIT.truth("red star")) > GOOD_IOU


def test_the_page_says_why_a_prompt_gave_nothing_until_one_gives_something(shapes):
    shapes.ask("zebra")
    expect(shapes.message).to_have_text('Nothing found for "zebra". Try other words, or click on the object.')
    expect(shapes.suggestions).to_be_hidden()
    shapes.choose("point", "circle")
    shapes.click(200, 190)
    expect(shapes.message).to_have_count(0)


def test_a_message_is_not_saved_with_the_annotation(shapes):
    shapes.ask("zebra")
    expect(shapes.message).to_be_visible()
    saved = shapes.submit()
    assert [region["from_name"] for region in saved] == ["prompt"]


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a picture that the browser may show and the backend must not fetch: on a private network."""

    class PictureHost(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(THREE_SHAPES.png())

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), PictureHost) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{host.server_port}/shapes.png"
        host.shutdown()


def test_the_page_says_why_the_backend_cannot_have_a_picture(project, labelling, elsewhere):
    (task,) = project.add_tasks([{"image": elsewhere}])
    labelling.open(project, task, (800, 600))
    labelling.switch_auto_annotation_on()
    labelling.choose("point", "circle")
    labelling.click(200, 190)
    expect(labelling.message).to_contain_text("IMAGE_ALLOW_PRIVATE_HOSTS")
    expect(labelling.suggestions).to_be_hidden()


def test_the_page_says_what_the_labelling_config_lacks(project, labelling):
    without_output = re.sub("<BrushLabels.*?</BrushLabels>", "", LABEL_CONFIG.read_text(), flags=re.DOTALL)
    project.studio.call("PATCH", f"/api/projects/{project.id}/", json={"label_config": without_output})
    (task,) = project.upload({"shapes.png": THREE_SHAPES.png()})
    labelling.open(project, task, (800, 600))
    labelling.switch_auto_annotation_on()
    labelling.choose("point", "circle")
    labelling.click(200, 190)
    expect(labelling.message).to_contain_text("no control to write masks to")


def test_the_page_says_that_auto_annotation_is_off(project, labelling):
    (task,) = project.upload({"shapes.png": THREE_SHAPES.png()})
    labelling.open(project, task, (800, 600))
    assert "Auto-Annotation is off" in labelling.hint()
    labelling.switch_auto_annotation_on()
    assert "Pick the smart tool" in labelling.hint()


def test_a_task_that_is_opened_comes_with_its_masks(studio, backend, labelling):
    project = studio.create_project("Predicted on opening", LABEL_CONFIG.read_text(), predict_on_open=True)
    project.connect(backend.url)
    (task,) = project.upload({"shapes.png": THREE_SHAPES.png()})
    labelling.open(project, task, (800, 600))
    assert_everything_is_masked(labelling.submit(), THREE_SHAPES)


def test_a_selection_gives_one_prediction_per_task_and_a_broken_picture_its_reason(project):
    drawings = {"shapes.png": THREE_SHAPES, "circles.png": TWO_CIRCLES, "phone.jpg": PORTRAIT}
    files = {name: drawing.file(name) for name, drawing in drawings.items()}
    *good, broken = project.upload({**files, "broken.png": files["shapes.png"][:1500]})
    project.retrieve_predictions()
    for task, drawing in zip(good, drawings.values(), strict=True):
        (prediction,) = project.predictions(task)
        assert_everything_is_masked(prediction["result"], drawing)
    (nothing,) = project.predictions(broken)
    assert nothing["result"] == []
    assert "image_undecodable: " in nothing["model_version"]


def assert_everything_is_masked(regions: list[dict[str, Any]], drawing: Drawing) -> None:
    found = masks(regions)
    assert set(found) == {shape.kind for shape in drawing.shapes}
    assert min(iou(mask, drawing.truth(label)) for label, mask in found.items()) > GOOD_IOU
