"""Which controls are written to, and where attributes may stand."""

from __future__ import annotations

import json

import pytest

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.tuning import DEFAULT_MAX_REGIONS

IMAGE = '<Image name="image" value="$image"/>'
CAR = '<Label value="car"/>'
CAR_AND_TREE = '<Label value="car"/><Label value="tree"/>'


def control(tag: str, name: str, labels: str = CAR, **attributes: str) -> str:
    written = " ".join(f'{attribute}="{value}"' for attribute, value in attributes.items())
    return f'<{tag} name="{name}" toName="image" {written}>{labels}</{tag}>'


def parse(*parts: str) -> LabelConfig:
    return LabelConfig.parse(f"<View>{IMAGE}{''.join(parts)}</View>")


def names(config: LabelConfig, label: str | None = "car") -> list[str]:
    return [output.name for output in config.outputs_for(label)]


@pytest.mark.parametrize("shape", ["Brush", "Bitmask", "Polygon", "Rectangle", "Ellipse", "Vector"])
def test_every_shape_is_written_with_labels_inside_or_beside(shape):
    (inside,) = parse(control(f"{shape}Labels", "out")).outputs
    (beside,) = parse(control(shape, "out", labels=""), control("Labels", "labels")).outputs

    assert (inside.kind, inside.labels_name) == (f"{shape.lower()}labels", "out")
    assert (beside.kind, beside.labels_name) == (shape.lower(), "labels")
    assert inside.labels == beside.labels


def test_all_controls_that_are_not_smart_are_written_to():
    config = parse(
        control("BrushLabels", "brush", smart="false"),
        control("PolygonLabels", "polygon"),
        control("KeyPointLabels", "point", smart="true"),
        control("RectangleLabels", "box", smart="true"),
    )

    assert names(config) == ["brush", "polygon"]


def test_a_smart_rectangle_asks_and_one_that_is_not_is_written_to():
    config = parse(control("RectangleLabels", "ask", smart="true"), control("RectangleLabels", "answer", CAR_AND_TREE))

    assert names(config) == ["answer"]


def test_a_smart_brush_is_written_to_where_nothing_else_is_because_it_cannot_ask():
    assert names(parse(control("BrushLabels", "brush", smart="true"))) == ["brush"]


def test_of_controls_that_are_all_smart_each_label_takes_the_first():
    config = parse(
        control("BrushLabels", "brush", CAR, smart="true"),
        control("PolygonLabels", "polygon", CAR, smart="true"),
        control("VectorLabels", "vector", '<Label value="road"/>', smart="true"),
    )

    assert names(config, "car") == ["brush"]
    assert names(config, "road") == ["vector"]


def test_a_smart_control_is_written_to_where_the_config_insists():
    config = parse(
        control("BrushLabels", "brush", smart="false"),
        control("RectangleLabels", "box", smart="true", model_output="true"),
        control("PolygonLabels", "polygon", smart="true"),
    )

    assert names(config) == ["brush", "box"]


@pytest.mark.parametrize("attribute", [{"model_skip": "true"}, {"model_output": "false"}])
def test_a_control_may_be_left_out(attribute):
    config = parse(control("BrushLabels", "brush"), control("PolygonLabels", "polygon", **attribute))

    assert names(config) == ["brush"]


def test_a_config_that_leaves_out_everything_is_refused():
    with pytest.raises(InvalidLabelConfig, match="no control to write masks to"):
        parse(control("BrushLabels", "brush", model_skip="true"))
    with pytest.raises(InvalidLabelConfig, match="no control to write masks to"):
        parse(control("RectangleLabels", "box", smart="true"))


def test_labels_may_be_spread_over_controls():
    config = parse(control("BrushLabels", "brush", CAR), control("RectangleLabels", "box", '<Label value="tree"/>'))

    assert names(config, "car") == ["brush"]
    assert names(config, "tree") == ["box"]
    assert names(config, None) == ["brush"]


@pytest.mark.parametrize(
    ("tag", "attribute", "value", "allowed"),
    [
        ("BrushLabels", "model_score_threshold", "2", "a number from 0 to 1"),
        ("BrushLabels", "model_mask_threshold", "0", "a number between 0 and 1, neither of them"),
        ("BrushLabels", "model_mask_threshold", "1", "a number between 0 and 1, neither of them"),
        ("BrushLabels", "model_nms_iou", "-0.1", "a number from 0 to 1"),
        ("BrushLabels", "model_max_regions", "0", "a whole number, 1 or more"),
        ("BrushLabels", "model_max_regions", "inf", "a whole number, 1 or more"),
        ("BrushLabels", "model_min_area", "101%", "pixels"),
        ("BrushLabels", "model_min_area", "-3", "pixels"),
        ("BrushLabels", "model_min_area", "big", "pixels"),
        ("BrushLabels", "model_smooth", "lots", "a number of pixels from 0 to 100"),
        ("BrushLabels", "model_smooth", "nan", "a number of pixels from 0 to 100"),
        ("PolygonLabels", "model_tolerance", "-1", "a number of pixels from 0 to 100"),
        ("BrushLabels", "model_multimask", "yes", '"true" or "false"'),
        ("BrushLabels", "model_output", "1", '"true" or "false"'),
        ("BrushLabels", "model_skip", "", '"true" or "false"'),
        ("BrushLabels", "model_prompt_field", "two words", "the name of a field of the task"),
        ("BrushLabels", "model_prompt_field", "$", "the name of a field of the task"),
        ("RectangleLabels", "model_mode", "find", '"segment", "exemplar" or "negative_exemplar"'),
        ("Number", "model_parameter", "speed", 'one of "mode", "score_threshold"'),
        ("TextArea", "model_message", "maybe", '"true" or "false"'),
    ],
)
def test_an_impossible_value_names_control_attribute_and_what_is_allowed(tag, attribute, value, allowed):
    with pytest.raises(InvalidLabelConfig) as caught:
        parse(control("BrushLabels", "brush"), control(tag, "it", **{attribute: value}))

    assert str(caught.value).startswith(f'{tag} "it": {attribute} must be {allowed}')
    assert str(caught.value).endswith(f'not "{value}".')


@pytest.mark.parametrize(
    ("tag", "attribute", "value", "place"),
    [
        ("KeyPointLabels", "model_mode", "exemplar", "RectangleLabels"),
        ("KeyPointLabels", "model_smooth", "2", "BrushLabels, BitmaskLabels"),
        ("TextArea", "model_skip", "true", "BrushLabels, BitmaskLabels"),
        ("RectangleLabels", "model_parameter", "mode", "Choices and Number"),
        ("Choices", "model_message", "true", "TextArea"),
    ],
)
def test_an_attribute_on_a_control_where_it_does_nothing_is_refused(tag, attribute, value, place):
    with pytest.raises(InvalidLabelConfig, match=f'{tag} "it": {attribute} means nothing here; it belongs on {place}'):
        parse(control("BrushLabels", "brush"), control(tag, "it", **{attribute: value}))


def test_all_tuning_is_read():
    tuning = parse(
        control(
            "BrushLabels",
            "brush",
            model_score_threshold="0.4",
            model_mask_threshold="0.6",
            model_nms_iou="0.7",
            model_max_regions="9",
            model_min_area="0.5%",
            model_multimask="false",
            model_prompt_field="$caption",
        )
    ).tuning

    assert tuning == (0.4, 0.6, 0.7, 9, (1, 0.005), False, "caption")


@pytest.mark.parametrize(("text", "area"), [("50", (50, 0)), ("50px", (50, 0)), ("0", (1, 0)), ("2.5%", (1, 0.025))])
def test_the_smallest_area_is_in_pixels_or_percent(text, area):
    assert parse(control("BrushLabels", "brush", model_min_area=text)).tuning.min_area == area


def test_shape_attributes_belong_to_their_own_control():
    config = parse(
        control("BrushLabels", "brush", model_smooth="2"), control("PolygonLabels", "polygon", model_tolerance="3px")
    )

    assert [(output.smooth_px, output.tolerance_px) for output in config.outputs] == [(2.0, None), (0.0, 3.0)]


CHANGES = {
    "model_score_threshold": "0.31",
    "model_mask_threshold": "0.61",
    "model_nms_iou": "0.7",
    "model_max_regions": "7",
    "model_min_area": "40",
    "model_prompt_field": "caption",
    "model_output": "false",
    "model_skip": "true",
    "model_smooth": "1.5",
    "model_tolerance": "2",
}


@pytest.mark.parametrize("attribute", CHANGES)
def test_whatever_changes_predictions_changes_the_signature(attribute):
    plain = parse(control("BrushLabels", "brush"), control("PolygonLabels", "polygon"))
    tuned = parse(
        control("BrushLabels", "brush"), control("PolygonLabels", "polygon", **{attribute: CHANGES[attribute]})
    )

    assert plain.signature != tuned.signature


def test_what_matters_to_an_annotators_prompts_alone_does_not_change_the_signature():
    box = control("RectangleLabels", "box", smart="true")
    plain = parse(control("BrushLabels", "brush"), box)
    tuned = parse(
        control("BrushLabels", "brush", model_multimask="true"),
        control("RectangleLabels", "box", smart="true", model_mode="exemplar"),
        control("Number", "threshold"),
    )

    assert plain.signature == tuned.signature


def test_writing_down_the_default_changes_nothing():
    plain, written = (
        parse(control("BrushLabels", "b", **more)) for more in ({}, {"model_max_regions": str(DEFAULT_MAX_REGIONS)})
    )

    assert plain.signature == written.signature
    assert json.loads(plain.signature)
