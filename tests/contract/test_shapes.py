"""Masks as each kind of control keeps them, against shapes that a real page drew and saved."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from sam3_backend.answer import Answer
from sam3_backend.geometry import rasterize
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.regions import answer_regions, prediction
from sam3_backend.masks import Mask, ScoredMask

RECORDED = Path(__file__).parent / "payloads"
WIDTH_PX, HEIGHT_PX = 800, 600
SHAPES = ["brush", "bitmask", "polygon", "vector", "rectangle", "ellipse"]


def recorded(shape: str) -> dict[str, Any]:
    region: dict[str, Any] = json.loads((RECORDED / f"response_{shape}.json").read_text())["data"]["result"][0]
    return region


def recorded_mask() -> Mask:
    """The object of the recorded answers."""
    encoded = recorded("bitmask")["value"]["imageDataURL"].partition(",")[2]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_UNCHANGED)
    return Mask.from_array(pixels[..., 3] > 0)


def config(shape: str, labels: str = '<Label value="blue square"/>', **attributes: str) -> str:
    tag = f"{shape.capitalize()}Labels"
    more = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f'<View><Image name="image" value="$image"/><{tag} name="out" toName="image" {more}>{labels}</{tag}></View>'


def plain_config(shape: str) -> str:
    return (
        f'<View><Image name="image" value="$image"/><{shape.capitalize()} name="out" toName="image"/>'
        '<Labels name="label" toName="image"><Label value="blue square"/></Labels></View>'
    )


def written(mask: Mask, xml: str, label: str | None = "blue square") -> list[dict[str, Any]]:
    height, width = mask.picture_hw
    found = ScoredMask(mask, mask.box_xyxy_px, 0.9, "detection_score", label)
    return answer_regions(Answer(width, height, (found,)), LabelConfig.parse(xml))


def shape_of(value: Any) -> Any:
    """Names and types, without values."""
    if isinstance(value, dict):
        return {name: shape_of(each) for name, each in value.items() if name != "prevPointId"}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("shape", SHAPES)
def test_a_region_has_the_form_of_one_that_a_page_drew_and_saved(shape):
    (region,) = written(recorded_mask(), config(shape))
    expected = recorded(shape)

    assert shape_of(region) == shape_of(expected)
    assert region["type"] == expected["type"]


def test_a_rectangle_lies_where_the_recorded_one_does():
    (region,) = written(recorded_mask(), config("rectangle"))

    assert region["value"] == recorded("rectangle")["value"]


def test_an_ellipse_has_the_centre_of_the_recorded_one_and_the_area_of_the_object():
    (region,) = written(recorded_mask(), config("ellipse"))
    ours, theirs = region["value"], recorded("ellipse")["value"]

    assert [ours[name] for name in ("x", "y", "rotation")] == [theirs[name] for name in ("x", "y", "rotation")]
    area_px = np.pi * ours["radiusX"] * ours["radiusY"] * WIDTH_PX * HEIGHT_PX / 100**2
    assert area_px == pytest.approx(recorded_mask().area_px, rel=0.06)


def test_a_bitmask_has_the_recorded_pixels():
    (region,) = written(recorded_mask(), config("bitmask"))
    pixels = [
        cv2.imdecode(
            np.frombuffer(base64.b64decode(each["value"]["imageDataURL"].partition(",")[2]), np.uint8),
            cv2.IMREAD_UNCHANGED,
        )
        for each in (region, recorded("bitmask"))
    ]

    assert np.array_equal(*pixels)


def rings(region: dict[str, Any]) -> np.ndarray:
    value = region["value"]
    points = [(each["x"], each["y"]) for each in value["vertices"]] if "vertices" in value else value["points"]
    return np.array(points) * (WIDTH_PX / 100, HEIGHT_PX / 100)


@pytest.mark.parametrize("shape", ["polygon", "vector"])
def test_points_in_percent_give_the_object_back(shape):
    mask = recorded_mask()
    (region,) = written(mask, config(shape))

    assert rasterize([rings(region)], (HEIGHT_PX, WIDTH_PX)).iou(mask) >= 0.95


def test_vertices_are_chained_by_their_ids():
    (region,) = written(recorded_mask(), config("vector"))
    vertices = region["value"]["vertices"]

    assert vertices[0]["prevPointId"] is None
    assert [each["prevPointId"] for each in vertices[1:]] == [each["id"] for each in vertices[:-1]]


@pytest.mark.parametrize("shape", ["polygon", "vector"])
def test_each_part_is_a_region_with_an_id_of_its_own(shape):
    array = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    array[100:200, 100:200] = array[300:400, 300:450] = True
    regions = written(Mask.from_array(array), config(shape))

    assert len({region["id"] for region in regions}) == 2
    assert {region["score"] for region in regions} == {0.9}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plain_control_keeps_its_label_beside_it_under_the_same_id(shape):
    drawn, labelled = written(recorded_mask(), plain_config(shape))

    assert (drawn["from_name"], drawn["type"]) == ("out", shape)
    assert (labelled["from_name"], labelled["type"]) == ("label", "labels")
    assert labelled["value"] == drawn["value"] | {"labels": ["blue square"]}
    assert drawn["id"] == labelled["id"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plain_control_without_a_label_is_one_region(shape):
    labels = "<Label value='a'/><Label value='b'/>"
    (region,) = written(recorded_mask(), plain_config(shape).replace("<Label ", labels + "<Label "), label=None)

    assert region["type"] == shape


@pytest.mark.parametrize("xml", [config(shape) for shape in SHAPES])
def test_label_studios_own_check_of_predictions_is_content(xml):
    regions = written(recorded_mask(), xml)

    assert LabelInterface(xml).validate_prediction(prediction(regions, "v"), return_errors=True) == []


def test_an_object_is_written_to_every_control_that_has_its_label():
    both = (
        config("brush").replace("</View>", config("rectangle").split("/>", 1)[1]).replace('name="out"', 'name="b"', 1)
    )
    brush, rectangle = written(recorded_mask(), both)

    assert (brush["type"], rectangle["type"]) == ("brushlabels", "rectanglelabels")
    assert brush["id"] != rectangle["id"]


def test_smoothing_and_tolerance_are_each_controls_own():
    rows, columns = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    disc = Mask.from_array((columns - 400) ** 2 + (rows - 300) ** 2 < 200**2)
    (rough,), (fine,) = (written(disc, config("polygon", model_tolerance=each)) for each in ("6", "0.5"))
    (plain,), (smooth,) = (written(recorded_mask(), config("bitmask", model_smooth=each)) for each in ("0", "9"))

    assert len(rough["value"]["points"]) < len(fine["value"]["points"])
    assert plain["value"] != smooth["value"]
