"""Labelling configs in plain words, and what is added to those that lack controls."""

from __future__ import annotations

import pytest
from label_studio_sdk.label_interface import LabelInterface

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.controls import read_tags
from sam3_backend.label_studio.explanation import explain
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.missing_controls import with_missing_controls

IMAGE = '<Image name="image" value="$photo"/>'
CAR = '<Label value="Car" alias="vehicle" predicted_values="car, van" hotkey="c" background="red"/>'
POLYGON = f'<PolygonLabels name="polygon" toName="image">{CAR}</PolygonLabels>'


def view(*parts: str) -> str:
    return f"<View>{''.join(parts)}</View>"


def words(*parts: str) -> dict[str, str]:
    return dict(explain(view(IMAGE, *parts)).controls)


def test_every_control_is_said_in_plain_words():
    said = words(
        POLYGON,
        f'<KeyPointLabels name="point" toName="image" smart="true">{CAR}</KeyPointLabels>',
        f'<RectangleLabels name="cut" toName="image" smart="true">{CAR}</RectangleLabels>',
        f'<RectangleLabels name="like" toName="image" smart="true" model_mode="exemplar">{CAR}</RectangleLabels>',
        '<TextArea name="prompt" toName="image"/>',
        '<Number name="threshold" toName="image"/>',
        '<Choices name="quality" toName="image"><Choice value="good"/></Choices>',
        '<Text name="status" value="x"/><TextArea name="told" toName="status" model_message="true"/>',
    )
    assert said == {
        'Image "image"': 'pictures come from the task\'s field "photo".',
        'PolygonLabels "polygon"': (
            "each object is written here as polygons, one for each part; predictions look for "
            '"car" (vehicle), "van" (vehicle).'
        ),
        'KeyPointLabels "point"': "a click cuts out the object there; Alt+click says what does not belong to it.",
        'RectangleLabels "cut"': "a box cuts out the object in it.",
        'RectangleLabels "like"': "a box around one finds all that look like it.",
        'TextArea "prompt"': "a text finds all that it means; semicolons part several.",
        'Number "threshold"': "what is answered sets score threshold for the next text prompts.",
        'Choices "quality"': "is left to people.",
        'TextArea "told"': "here annotators read why a prompt gave nothing.",
    }


def test_a_control_that_both_asks_and_is_written_to_says_both():
    box = f'<RectangleLabels name="box" toName="image" smart="true" model_output="true">{CAR}</RectangleLabels>'
    assert words(box)['RectangleLabels "box"'].startswith(
        "a box cuts out the object in it; each object is written here as the box around it;"
    )


@pytest.mark.parametrize(
    ("parts", "advice"),
    [
        ((POLYGON.replace("toName", 'model_treshold="1" toName'),), "model_treshold is not known here"),
        (
            (POLYGON.replace("toName", 'model_score_treshold="1" toName'),),
            'PolygonLabels "polygon": model_score_treshold is not known here; is model_score_threshold meant?',
        ),
        (
            (POLYGON, POLYGON.replace("Polygon", "Brush").replace('"polygon"', '"brush"')),
            'Each "Car" is written 2 times, to polygon, brush. Put model_skip="true" on those that are only',
        ),
        (
            (POLYGON, '<KeyPointLabels name="p" toName="image" smart="true"><Label value="bus"/></KeyPointLabels>'),
            'KeyPointLabels "p": no output has the label "bus"; what it finds gets no label.',
        ),
        (
            (POLYGON, f'<KeyPointLabels name="p" toName="image" smart="true">{CAR}</KeyPointLabels>'),
            "There is no message control",
        ),
        ((POLYGON.replace("toName", 'smart="true" toName'),), 'write smart="false"'),
    ],
)
def test_what_may_not_be_meant_is_pointed_out(parts, advice):
    assert any(advice in each for each in explain(view(IMAGE, *parts)).advice)


def test_a_config_that_cannot_be_used_is_not_explained():
    with pytest.raises(InvalidLabelConfig, match="no control to write masks to"):
        explain(view(IMAGE))


@pytest.mark.parametrize(
    "xml",
    [
        view(IMAGE, POLYGON),
        view(IMAGE, '<KeyPointLabels name="prompt" toName="image"><Label value="x"/></KeyPointLabels>'),
        view(IMAGE),
        view(
            IMAGE,
            '<Brush name="b" toName="image"/><Labels name="l" toName="image"><Label value="x &amp; y"/></Labels>',
        ),
    ],
    ids=["polygon", "points alone", "picture alone", "plain tools"],
)
def test_a_config_gets_every_way_to_ask_and_label_studio_accepts_it(xml):
    extended = with_missing_controls(xml)
    LabelInterface(extended).validate()
    said = " ".join(text for _, text in explain(extended).controls)

    for use in ("a click cuts out", "a box cuts out", "a text finds", "annotators read why", "each object is written"):
        assert use in said
    assert explain(extended).advice == ()
    names = [tag.name for tag in read_tags(extended) if tag.name]
    assert len(names) == len(set(names))


def test_what_is_there_stays_to_the_letter():
    xml = f"<View>\n  {IMAGE}\n    {POLYGON}<!-- ours -->\n\n</View>\n"
    extended = with_missing_controls(xml)

    assert extended.startswith(xml.rstrip().removesuffix("</View>").rstrip())
    assert with_missing_controls(extended) == extended


def test_labels_are_copied_without_hotkeys_that_two_controls_cannot_share():
    extended = with_missing_controls(view(IMAGE, POLYGON))
    points = next(tag for tag in read_tags(extended) if tag.kind == "keypointlabels")

    assert [dict(label.attrib) for label in points.element] == [
        {"value": "Car", "alias": "vehicle", "background": "red"}
    ]
    assert LabelConfig.parse(extended).signature == LabelConfig.parse(view(IMAGE, POLYGON)).signature


def test_without_a_picture_nothing_can_be_added():
    with pytest.raises(InvalidLabelConfig, match="no Image tag"):
        with_missing_controls(view(POLYGON))
    with pytest.raises(InvalidLabelConfig, match="must end with a closing tag"):
        with_missing_controls(view(IMAGE, POLYGON) + "<!-- the end -->")
