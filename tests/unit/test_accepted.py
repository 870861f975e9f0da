"""What an annotator has accepted already, from the regions Label Studio sends along."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from sam3_backend.answer import Answer
from sam3_backend.label_studio.accepted import Accepted, accepted_by_asker
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.regions import answer_regions
from sam3_backend.masks import Mask, ScoredMask

WIDTH_PX, HEIGHT_PX = 160, 120
SHAPES = ["Brush", "Bitmask", "Polygon", "Vector", "Rectangle", "Ellipse"]


def disc(x: float, y: float, radius: float = 25) -> ScoredMask:
    rows, columns = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    mask = Mask.from_array((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2)
    return ScoredMask(mask, mask.box_xyxy_px, 0.9, "detection_score", "car")


def config(shape: str) -> LabelConfig:
    return LabelConfig.parse(
        f'<View><Image name="image" value="$image"/><{shape}Labels name="out" toName="image">'
        f'<Label value="car"/></{shape}Labels></View>'
    )


def regions(shape: str, *found: ScoredMask) -> list[dict[str, Any]]:
    return answer_regions(Answer(WIDTH_PX, HEIGHT_PX, found), config(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_accepted_object_is_known_in_every_shape_and_its_neighbour_is_not(shape):
    accepted = Accepted(regions(shape, disc(50, 60)))

    assert accepted.has(disc(50, 60))
    assert accepted.has(disc(50.5, 60))
    assert not accepted.has(disc(60, 60))
    assert not accepted.has(disc(110, 60))


@pytest.mark.parametrize(("shape", "turn"), [("Rectangle", 90), ("Ellipse", 90), ("Ellipse", 450)])
def test_turned_shapes_are_read_as_the_page_draws_them(shape, turn):
    tall = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    tall[20:100, 60:80] = True
    mask = Mask.from_array(tall)
    found = ScoredMask(mask, mask.box_xyxy_px, 0.9, "detection_score", "car")
    (region,) = regions(shape, found)
    value = region["value"]
    if shape == "Rectangle":  # lies down, then turned clockwise about its top left corner
        value |= {"x": 100 * 80 / WIDTH_PX, "width": 100 * 80 / WIDTH_PX, "height": 100 * 20 / HEIGHT_PX}
    else:
        a, b = value["radiusX"] * WIDTH_PX, value["radiusY"] * HEIGHT_PX
        value |= {"radiusX": b / WIDTH_PX, "radiusY": a / HEIGHT_PX}
    assert not Accepted([copy.deepcopy(region)]).has(found)

    value["rotation"] = turn
    assert Accepted([region]).has(found)


ODD = [
    {"type": "brushlabels", "value": {"format": "rle", "rle": [0, 0, 0]}},
    {"type": "brushlabels", "value": {"format": "rle", "rle": "rubbish"}},
    {"type": "brushlabels", "value": {"format": "rle", "rle": [999]}},
    {"type": "brushlabels", "value": None},
    {"type": "brushlabels"},
    {"type": "keypointlabels", "value": {"format": "rle", "rle": [0]}},
    {"type": "polygonlabels", "value": {"points": []}},
    {"type": "polygonlabels", "value": {"points": [[1, "x"], [2, 3], [4, 5]]}},
    {"type": "polygonlabels", "value": {"points": [[float("nan"), 1], [2, 3], [4, 5]]}},
    {"type": "polygonlabels", "value": {"points": [[1e300, 1], [2, 3e300], [4, 5]]}},
    {"type": "vectorlabels", "value": {"vertices": [{"x": 1}]}},
    {"type": "rectanglelabels", "value": {"x": 1, "y": 2}},
    {"type": "ellipselabels", "value": {"x": 1, "y": 2, "radiusX": "wide", "radiusY": 3}},
    {"type": "bitmasklabels", "value": {"imageDataURL": "data:image/png;base64,!!!"}},
    {"type": "bitmasklabels", "value": {"imageDataURL": "data:image/png;base64,iVBORw0KGgo="}},
    {"type": ["odd"], "value": {}},
    {},
]


@pytest.mark.parametrize("region", ODD, ids=str)
def test_odd_regions_are_passed_over(region):
    accepted = Accepted([region, *regions("Brush", disc(50, 60))])

    assert accepted.has(disc(50, 60))
    assert not accepted.has(disc(110, 60))


def test_a_small_file_that_would_unpack_to_a_huge_picture_is_not_unpacked():
    (region,) = regions("Bitmask", disc(50, 60))
    larger = ScoredMask(Mask(disc(50, 60).mask.crop, (0, 0), (9000, 9000)), (0, 0, 1, 1), 0.9, "detection_score")
    assert not Accepted([region]).has(larger)


def work(user: str, *found: ScoredMask, region_id: str = "") -> dict[str, Any]:
    result = regions("Brush", *found)
    return {"user": user, "result": [*result, {"id": region_id, "type": "textarea", "value": {"text": ["car"]}}]}


def test_drafts_of_one_person_are_the_askers():
    task = {"drafts": [work("a@b", disc(50, 60)), work("a@b", disc(110, 60))], "annotations": []}
    accepted = accepted_by_asker(task, {"new"})

    assert accepted.has(disc(50, 60))
    assert accepted.has(disc(110, 60))


def test_of_several_peoples_drafts_the_one_with_the_prompt_is_the_askers():
    task = {"drafts": [work("a@b", disc(50, 60), region_id="t1"), work("c@d", disc(110, 60))]}

    assert accepted_by_asker(task, {"t1"}).has(disc(50, 60))
    assert not accepted_by_asker(task, {"t1"}).has(disc(110, 60))
    assert len(accepted_by_asker(task, {"new"})) == 0


def test_an_annotation_counts_where_it_holds_the_prompt_and_not_for_a_second_annotator():
    task = {"annotations": [work("", disc(50, 60), region_id="t1")], "drafts": []}

    assert accepted_by_asker(task, {"t1"}).has(disc(50, 60))
    assert len(accepted_by_asker(task, {"new"})) == 0


@pytest.mark.parametrize("task", [{}, {"drafts": None}, {"drafts": "x"}, {"drafts": [None, {"result": "x"}]}])
def test_a_task_without_readable_work_has_nothing_accepted(task):
    assert len(accepted_by_asker(task, {"t"})) == 0
