"""What each labelling config in ``examples/`` is for, done on the real page and in the real Label Studio."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from PIL import Image, ImageDraw

from tests.e2e.example_configs import ALIKE, DRAWING, in_shapes
from tests.overlap import box_around, iou

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from examples.studio.label_studio import Project, Studio
    from examples.studio.pictures import Drawing
    from examples.studio.processes import Server
    from tests.e2e.labelling_page import LabellingPage

pytestmark = pytest.mark.e2e

WIDTH_PX, HEIGHT_PX = 800, 600
GOOD_IOU = 0.9


@pytest.fixture
def connected(studio: Studio, backend: Server) -> Callable[[str], Project]:
    """Makes a project with an example's config, connected."""

    def make(example: str) -> Project:
        project = studio.create_project(f"Example {example}", in_shapes(example), predict_on_open=False)
        project.connect(backend.url)
        return project

    return make


def opened(project: Project, labelling: LabellingPage, drawing: Drawing = DRAWING) -> LabellingPage:
    (task,) = project.upload({"shapes.png": drawing.png()})
    labelling.open(project, task, (WIDTH_PX, HEIGHT_PX))
    labelling.switch_auto_annotation_on()
    return labelling


def by_label(regions: list[dict[str, Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Saved shapes' pixels joined by label, (height, width) bool each."""
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for region in regions:
        value = region["value"]
        if region["type"] == "brushlabels":
            pixels = decode_rle(value["rle"]).reshape(HEIGHT_PX, WIDTH_PX, 4)[..., 3] > 0
        elif region["type"] == "polygonlabels":
            pixels = filled([(x * 8, y * 6) for x, y in value["points"]])
        elif region["type"] == "rectanglelabels":
            x1, y1 = value["x"] * 8, value["y"] * 6
            x2, y2 = x1 + value["width"] * 8 - 1, y1 + value["height"] * 6 - 1
            pixels = filled([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
        else:
            continue
        (label,) = value[region["type"]]
        found[label] = found.get(label, False) | pixels
    return found


def filled(points: list[tuple[float, float]]) -> npt.NDArray[np.bool_]:
    canvas = Image.new("1", (WIDTH_PX, HEIGHT_PX))
    ImageDraw.Draw(canvas).polygon(points, fill=1)
    return np.array(canvas)


def test_click_one_click_cuts_an_object_out(connected: Callable[[str], Project], labelling: LabellingPage):
    page = opened(connected("click"), labelling)
    page.choose("point", "object")
    page.click(200, 190)
    page.accept()
    saved = page.submit()
    assert [region["type"] for region in saved] == ["brushlabels"]
    assert iou(by_label(saved)["object"], DRAWING.truth("circle")) > GOOD_IOU


def test_tags_every_label_is_looked_for_by_what_it_stands_for(connected: Callable[[str], Project]):
    project = connected("tags")
    (task,) = project.upload({"shapes.png": DRAWING.png()})
    project.retrieve_predictions()
    (prediction,) = project.predictions(task)
    found = by_label(prediction["result"])
    assert set(found) == {"Vehicle", "square", "vegetation"}
    for label, kind in (("Vehicle", "circle"), ("square", "square"), ("vegetation", "triangle")):
        assert iou(found[label], DRAWING.truth(kind)) > GOOD_IOU


def test_similar_one_box_finds_all_like_it_and_nothing_else(
    connected: Callable[[str], Project], labelling: LabellingPage
):
    page = opened(connected("similar"), labelling, ALIKE)
    page.choose("box", "object", view="like")
    page.drag(85, 75, 315, 305)
    page.accept()
    found = [region for region in page.submit() if region["from_name"] == "brush"]
    assert len(found) == 3
    assert iou(by_label(found)["object"], ALIKE.truth("red circle")) > GOOD_IOU


def test_similar_boxes_around_examples_and_counterexamples_are_asked_together(
    connected: Callable[[str], Project], labelling: LabellingPage
):
    page = opened(connected("similar"), labelling)
    asked: list[list[dict[str, Any]]] = []
    page.page.on(
        "request",
        lambda request: (
            asked.append(json.loads(request.post_data)["context"]["result"])
            if "interactive-annotating" in request.url
            else None
        ),
    )
    page.choose("box", "object", view="like")
    page.drag(85, 75, 315, 305)
    page.accept()
    page.choose("box", "object", view="like")
    page.drag(420, 70, 700, 350)
    page.choose("box", "object", view="unlike", nth=1)
    page.drag(260, 320, 500, 520)
    assert [[region["from_name"] for region in regions] for regions in asked] == [
        ["like"],
        ["like"],
        ["like", "unlike"],
    ]
    found = by_label([region for region in page.submit() if region["from_name"] == "brush"])
    assert iou(found["object"], DRAWING.truth("circle")) > GOOD_IOU


def test_polygons_a_click_becomes_one(connected: Callable[[str], Project], labelling: LabellingPage):
    page = opened(connected("polygons"), labelling)
    page.choose("point", "circle")
    page.click(200, 190)
    page.accept()
    (region,) = page.submit()
    assert region["type"] == "polygonlabels"
    assert len(region["value"]["points"]) < 60
    assert iou(by_label([region])["circle"], DRAWING.truth("circle")) > GOOD_IOU


def test_boxes_a_text_finds_tight_ones(connected: Callable[[str], Project], labelling: LabellingPage):
    page = opened(connected("boxes"), labelling)
    page.ask("circles; square")
    page.accept()
    found = by_label([region for region in page.submit() if region["type"] == "rectanglelabels"])
    assert set(found) == {"circle", "square"}
    for label, box in found.items():
        assert iou(box, box_around(DRAWING.truth(label))) > GOOD_IOU


def test_captions_each_task_says_itself_what_to_look_for(connected: Callable[[str], Project]):
    project = connected("captions")
    image = "data:image/png;base64," + base64.b64encode(DRAWING.png()).decode()
    first, second, third = project.add_tasks(
        [
            {"image": image, "caption": "food: circle\ntriangle"},
            {"image": image, "caption": ""},
            {"image": image, "caption": "drinks: circle"},
        ]
    )
    project.retrieve_predictions([first, second, third])
    (prediction,), (nothing,), (refused,) = (project.predictions(task) for task in (first, second, third))
    found = by_label(prediction["result"])
    assert set(found) == {"food", "cutlery"}
    assert iou(found["food"], DRAWING.truth("circle")) > GOOD_IOU
    assert iou(found["cutlery"], DRAWING.truth("triangle")) > GOOD_IOU
    assert (nothing["result"], refused["result"]) == ([], [])
    assert 'There is no label "drinks"' in refused["model_version"]
