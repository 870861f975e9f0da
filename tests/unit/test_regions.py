from __future__ import annotations

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from sam3_backend.answer import Answer
from sam3_backend.label_studio import regions, rle
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.masks import Mask, ScoredMask

BRUSH_LABELS = """<View><Image name="photo" value="$image"/>
<BrushLabels name="brush" toName="photo"><Label value="car"/><Label value="Tree" alias="plant"/></BrushLabels></View>"""
PLAIN_BRUSH = """<View><Image name="photo" value="$image"/><Brush name="brush" toName="photo"/>
<Labels name="label" toName="photo"><Label value="car"/></Labels></View>"""
MESSAGE = """<View><Image name="photo" value="$image"/><BrushLabels name="brush" toName="photo"><Label value="car"/>
</BrushLabels><Text name="status" value="x"/><TextArea name="told" toName="status" model_message="true"/></View>"""


def scored(label: str | None, score: float = 0.75) -> ScoredMask:
    array = np.zeros((30, 40), dtype=bool)
    array[5:9, 7:20] = True
    mask = Mask.from_array(array)
    return ScoredMask(mask, mask.box_xyxy_px, score, "iou_score", label)


def answer(*found: ScoredMask) -> Answer:
    return Answer(40, 30, found)


def test_a_mask_becomes_a_brush_region_of_the_pictures_own_size():
    (region,) = regions.answer_regions(answer(scored("car")), LabelConfig.parse(BRUSH_LABELS))
    mask = rle.decode(region["value"].pop("rle"), 40, 30)
    assert np.array_equal(mask, scored("car").mask.to_array())
    assert region.pop("id")
    assert region == {
        "from_name": "brush",
        "to_name": "photo",
        "type": "brushlabels",
        "original_width": 40,
        "original_height": 30,
        "image_rotation": 0,
        "score": 0.75,
        "value": {"format": "rle", "brushlabels": ["car"]},
    }


def test_regions_have_ids_of_their_own():
    found = regions.answer_regions(answer(scored("car"), scored("car")), LabelConfig.parse(BRUSH_LABELS))
    assert len({region["id"] for region in found}) == 2


def test_a_mask_without_label_is_written_without_label():
    (region,) = regions.answer_regions(answer(scored(None)), LabelConfig.parse(BRUSH_LABELS))
    assert region["value"]["brushlabels"] == []


def test_a_plain_brush_writes_mask_and_label_as_two_regions_with_one_id():
    brush, label = regions.answer_regions(answer(scored("car")), LabelConfig.parse(PLAIN_BRUSH))
    assert (brush["type"], brush["from_name"]) == ("brush", "brush")
    assert (label["type"], label["from_name"], label["value"]["labels"]) == ("labels", "label", ["car"])
    assert brush["id"] == label["id"]
    assert brush["value"]["rle"] == label["value"]["rle"]


def test_a_plain_brush_without_label_is_one_region():
    (brush,) = regions.answer_regions(answer(scored(None)), LabelConfig.parse(PLAIN_BRUSH))
    assert brush["type"] == "brush"


@pytest.mark.parametrize("config", [BRUSH_LABELS, PLAIN_BRUSH])
@pytest.mark.parametrize("labels", [["car"], [None], ["car", None], []])
def test_label_studios_own_check_of_predictions_is_content(config, labels):
    found = regions.answer_regions(answer(*map(scored, labels)), LabelConfig.parse(config))
    prediction = regions.prediction(found, "v")
    assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []


def test_an_alias_is_a_name_that_label_studio_knows():
    found = regions.answer_regions(answer(scored("plant")), LabelConfig.parse(BRUSH_LABELS))
    prediction = regions.prediction(found, "v")
    assert LabelInterface(BRUSH_LABELS).validate_prediction(prediction, return_errors=True) == []


def test_a_predictions_score_is_the_mean_of_its_regions():
    config = LabelConfig.parse(PLAIN_BRUSH)
    found = regions.answer_regions(answer(scored("car", 0.5), scored(None, 0.9)), config)
    assert regions.prediction(found, "v")["score"] == pytest.approx(0.7)
    assert regions.prediction([], "v") == {"result": [], "score": 0.0, "model_version": "v"}


def test_a_message_goes_to_the_message_control_and_does_not_count_as_a_mask():
    config = LabelConfig.parse(MESSAGE)
    found = regions.message_regions(config, "Nothing found.")
    (region,) = found
    assert (region["from_name"], region["to_name"], region["type"]) == ("told", "status", "textarea")
    assert region["value"] == {"text": ["Nothing found."]}
    assert regions.prediction(found, "v")["score"] == 0.0


def test_without_a_message_control_nothing_is_told():
    assert regions.message_regions(LabelConfig.parse(BRUSH_LABELS), "x") == []


def test_a_failed_version_ends_in_the_reason():
    assert regions.failed_version("v:1-2", "image_unreachable", "The host said 404.") == (
        "v:1-2:image_unreachable: The host said 404."
    )


def test_a_reason_is_one_short_printable_line():
    version = regions.failed_version("v", "code", "a\x00b\n\tc " + "x" * 1000)
    assert version.startswith("v:code: a b c xxx")
    assert version.isprintable()
    assert len(version) == len("v:code: ") + 300
