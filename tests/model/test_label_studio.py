"""From Label Studio's requests to brush masks with the demo checkpoint: nothing is played but the network."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import KnownPictures, PictureLoader
from sam3_backend.label_studio import rle
from sam3_backend.label_studio.backend import LabelStudioBackend
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.model.scheduler import Scheduler
from sam3_backend.segmenter import Segmenter
from sam3_backend.settings import Settings
from tests.overlap import iou

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam3_backend import Predictor

RECOMMENDED = (Path(__file__).parents[2] / "examples" / "recommended" / "label_config.xml").read_text()
WIDTH_PX, HEIGHT_PX = 640, 480
CIRCLE, SQUARE = (80, 80, 240, 240), (380, 220, 540, 380)
LEAST_IOU = 0.9


def drawn() -> tuple[Image.Image, dict[str, np.ndarray]]:
    """A picture with a red circle and a blue square, and the pixels of each."""
    picture, truth = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (232, 230, 225)), {}
    for name, draw, box, colour in (
        ("circle", "ellipse", CIRCLE, (220, 40, 40)),
        ("square", "rectangle", SQUARE, (40, 70, 220)),
    ):
        alone = Image.new("1", picture.size)
        getattr(ImageDraw.Draw(picture), draw)(box, fill=colour)
        getattr(ImageDraw.Draw(alone), draw)(box, fill=1)
        truth[name] = np.array(alone)
    return picture, truth


PICTURE, TRUTH = drawn()


def data_uri(exif_orientation: int = 1) -> str:
    out, exif, stored = io.BytesIO(), Image.Exif(), PICTURE
    exif[0x0112] = exif_orientation
    if exif_orientation == 6:
        stored = PICTURE.transpose(Image.Transpose.ROTATE_90)
    stored.save(out, "PNG", exif=exif)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def backend(demo: Predictor) -> Iterator[LabelStudioBackend]:
    pictures = KnownPictures(PictureLoader.from_settings(Settings()))
    segmenter = Segmenter(demo, Scheduler(), EmbeddingStore(MemoryTier(10**9)), pictures)
    service = LabelStudioBackend(segmenter, LabelStudioAccess(), demo)
    yield service
    service.close()


def masks(backend: LabelStudioBackend, *regions: dict[str, Any], uri: str | None = None) -> list[tuple[list[str], Any]]:
    """Labels and mask of each brush region answered to prompts, or to the labels where there are none."""
    payload = {
        "tasks": [{"id": 1, "data": {"image": uri or data_uri()}}],
        "project": "1.1",
        "label_config": RECOMMENDED,
        "params": {"context": {"result": list(regions)} if regions else None},
    }
    (prediction,) = backend.predict(payload)["results"]
    found = []
    for region in prediction["result"]:
        if region["type"] == "brushlabels":
            value, width_px, height_px = region["value"], region["original_width"], region["original_height"]
            found.append((value["brushlabels"], rle.decode(value["rle"], width_px, height_px)))
    return found


def keypoint(x_px: float, y_px: float, label: str, *, is_positive: bool = True) -> dict[str, Any]:
    value = {"x": 100 * x_px / WIDTH_PX, "y": 100 * y_px / HEIGHT_PX, "width": 0.2, "keypointlabels": [label]}
    return {"id": f"{x_px}", "from_name": "point", "type": "keypointlabels", "is_positive": is_positive, "value": value}


def rectangle(x1: float, y1: float, x2: float, y2: float, label: str) -> dict[str, Any]:
    value = {
        "x": 100 * x1 / WIDTH_PX,
        "y": 100 * y1 / HEIGHT_PX,
        "width": 100 * (x2 - x1) / WIDTH_PX,
        "height": 100 * (y2 - y1) / HEIGHT_PX,
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return {"id": f"{x1}", "from_name": "box", "type": "rectanglelabels", "value": value}


def text(*texts: str) -> dict[str, Any]:
    return {"id": "t", "from_name": "prompt", "type": "textarea", "value": {"text": list(texts)}}


@pytest.mark.parametrize(("x_px", "y_px", "name"), [(160, 160, "circle"), (460, 300, "square")])
def test_a_click_takes_the_object_under_it(backend, x_px, y_px, name):
    ((labels, mask),) = masks(backend, keypoint(x_px, y_px, name))
    assert labels == [name]
    assert iou(mask, TRUTH[name]) > LEAST_IOU


def test_more_clicks_keep_the_object(backend):
    clicks = [keypoint(160, 160, "circle"), keypoint(190, 130, "circle")]
    ((_, mask),) = masks(backend, *clicks, keypoint(300, 160, "circle", is_positive=False))
    assert iou(mask, TRUTH["circle"]) > LEAST_IOU


def test_each_rectangle_takes_the_object_in_it(backend):
    (_, circle), (_, square) = masks(
        backend, rectangle(70, 70, 250, 250, "circle"), rectangle(370, 210, 550, 390, "square")
    )
    assert iou(circle, TRUTH["circle"]) > LEAST_IOU
    assert iou(square, TRUTH["square"]) > LEAST_IOU


def test_a_text_finds_the_objects_it_names(backend):
    found = masks(backend, text("circle"))
    assert all(labels == ["circle"] for labels, _ in found)
    assert max(iou(mask, TRUTH["circle"]) for _, mask in found) > LEAST_IOU


def test_labels_are_found_without_anybody_asking(backend):
    found = masks(backend)
    for name, truth in TRUTH.items():
        assert max(iou(mask, truth) for labels, mask in found if labels == [name]) > LEAST_IOU


def test_a_picture_stored_on_its_side_is_answered_upright(backend):
    ((_, mask),) = masks(backend, keypoint(160, 160, "circle"), uri=data_uri(exif_orientation=6))
    assert mask.shape == (HEIGHT_PX, WIDTH_PX)
    assert iou(mask, TRUTH["circle"]) > LEAST_IOU
