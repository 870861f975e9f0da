"""Every kind of output, drawn by the real page and saved by the real Label Studio, against what was drawn."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from PIL import Image, ImageDraw

from examples.studio.pictures import Drawing, Shape
from tests.overlap import box_around, iou

if TYPE_CHECKING:
    import numpy.typing as npt

    from examples.studio.label_studio import Studio
    from examples.studio.processes import Server
    from tests.e2e.labelling_page import LabellingPage

pytestmark = pytest.mark.e2e

SHAPES = ("Brush", "Bitmask", "Polygon", "Rectangle", "Ellipse", "Vector")
LABELS = '<Label value="circle" background="#f032e6"/><Label value="square" background="#84cc16"/>'
POINT = (
    '<View className="sam3-point"><KeyPointLabels name="point" toName="image" smart="true" smartOnly="true">'
    f"{LABELS}</KeyPointLabels></View>"
)
DRAWING = Drawing(
    (
        Shape("circle", "red", (200, 190), 110),
        Shape("square", "blue", (560, 210), 130),
        Shape("triangle", "green", (380, 450), 120),
    )
)
WIDTH_PX, HEIGHT_PX = 800, 600


def config(*, plain: bool) -> str:
    """All outputs at once: with labels inside them, or plain ones beside a Labels tag."""
    outputs = "".join(
        f'<{shape} name="{shape.lower()}" toName="image" smart="false"/>'
        if plain
        else f'<{shape}Labels name="{shape.lower()}" toName="image" smart="false">{LABELS}</{shape}Labels>'
        for shape in SHAPES
    )
    beside = f'<Labels name="labels" toName="image">{LABELS}</Labels>' if plain else ""
    return f'<View><Image name="image" value="$image"/>{POINT}{outputs}{beside}</View>'


def drawn(value: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """A saved region's pixels, (height, width) bool, read with other tools than ours."""
    if "rle" in value:
        return decode_rle(value["rle"]).reshape(HEIGHT_PX, WIDTH_PX, 4)[..., 3] > 0
    if "imageDataURL" in value:
        encoded = value["imageDataURL"].partition(",")[2]
        return np.array(Image.open(io.BytesIO(base64.b64decode(encoded))))[..., 3] > 0
    canvas = Image.new("1", (WIDTH_PX, HEIGHT_PX))
    pen = ImageDraw.Draw(canvas)
    scale = np.array([WIDTH_PX, HEIGHT_PX]) / 100
    if "radiusX" in value:
        assert value["rotation"] == 0
        centre, radii = np.array([value["x"], value["y"]]), np.array([value["radiusX"], value["radiusY"]])
        pen.ellipse([*((centre - radii) * scale), *((centre + radii) * scale)], fill=1)
    elif "width" in value:
        corner, size = np.array([value["x"], value["y"]]), np.array([value["width"], value["height"]])
        pen.rectangle([*(corner * scale), *((corner + size) * scale - 1)], fill=1)
    else:
        points = [(each["x"], each["y"]) for each in value["vertices"]] if "vertices" in value else value["points"]
        pen.polygon([tuple(each) for each in np.array(points) * scale], fill=1)
    return np.array(canvas)


@pytest.mark.parametrize("plain", [False, True], ids=["labels inside", "labels beside"])
def test_one_click_is_drawn_and_saved_as_every_kind_of_output(
    studio: Studio, backend: Server, labelling: LabellingPage, plain: bool
):
    project = studio.create_project("Every output", config(plain=plain), predict_on_open=False)
    project.connect(backend.url)
    (task,) = project.upload({"shapes.png": DRAWING.png()})
    labelling.open(project, task, (WIDTH_PX, HEIGHT_PX))
    faults: list[str] = []
    labelling.page.on("pageerror", lambda fault: faults.append(str(fault)))
    labelling.switch_auto_annotation_on()
    labelling.choose("point", "circle")
    labelling.click(200, 190)
    labelling.accept()
    saved = labelling.submit()

    assert faults == []
    by_name = {region["from_name"]: region for region in saved if region["type"] != "labels"}
    assert set(by_name) == {shape.lower() for shape in SHAPES}
    truth = DRAWING.truth("red circle")
    for shape, region in by_name.items():
        assert region["type"] == (shape if plain else f"{shape}labels")
        assert iou(drawn(region["value"]), box_around(truth) if shape == "rectangle" else truth) > 0.9, shape
    labels = [region for region in saved if region["type"] == "labels"]
    expected = {region["id"] for region in by_name.values()} if plain else set()
    assert {region["id"] for region in labels} == expected
    assert all(region["value"]["labels"] == ["circle"] for region in labels)
