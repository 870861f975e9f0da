from __future__ import annotations

import time

import pytest
from label_studio_sdk.label_interface import LabelInterface

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.label_config import LabelConfig, MessageControl
from sam3_backend.label_studio.labels import Label

IMAGE = '<Image name="image" value="$image"/>'
BRUSH = (
    '<BrushLabels name="brush" toName="image" smart="false">'
    '<Label value="red circle"/><Label value="Car" alias="vehicle" predicted_values="car, truck"/></BrushLabels>'
)


def config(*parts: str) -> str:
    return f"<View>{''.join(parts)}</View>"


def parse(*parts: str) -> LabelConfig:
    return LabelConfig.parse(config(*parts))


def test_picture_outputs_and_labels_are_read_in_order():
    read = parse(IMAGE, BRUSH)
    assert (read.image_name, read.data_key) == ("image", "image")
    (output,) = read.outputs
    assert (output.name, output.kind, output.labels_name) == ("brush", "brushlabels", "brush")
    assert output.labels == (Label("red circle"), Label("Car", "vehicle", ("car", "truck")))


def test_a_config_is_read_once_per_text():
    assert parse(IMAGE, BRUSH) is parse(IMAGE, BRUSH)


def test_tags_and_attributes_are_read_whatever_their_capitals():
    read = parse(
        '<image NAME="i" Value="$photo"/>', '<brushlabels NAME="b" toname="i"><label Value="x"/></brushlabels>'
    )
    assert (read.image_name, read.data_key, read.outputs[0].name) == ("i", "photo", "b")
    assert read.labels == (Label("x"),)


def test_labels_inside_further_views_are_found():
    brush = '<BrushLabels name="b" toName="image"><View><Label value="x"/></View></BrushLabels>'
    assert parse(IMAGE, brush).labels == (Label("x"),)


def test_a_plain_brush_takes_its_labels_from_the_labels_tag_beside_it():
    read = parse(
        IMAGE, '<Brush name="b" toName="image"/>', '<Labels name="l" toName="image"><Label value="x"/></Labels>'
    )
    (output,) = read.outputs
    assert (output.kind, output.labels_name, output.labels) == ("brush", "l", (Label("x"),))


def test_a_plain_brush_may_be_without_labels():
    (output,) = parse(IMAGE, '<Brush name="b" toName="image"/>').outputs
    assert (output.labels_name, output.labels) == (None, ())


def test_a_mask_is_written_to_the_control_that_has_its_label():
    other = '<BrushLabels name="other" toName="image"><Label value="tree"/></BrushLabels>'
    read = parse(IMAGE, BRUSH, other)
    written = {
        label: [output.name for output in read.outputs_for(label)] for label in ("tree", "vehicle", "unheard of", None)
    }
    assert written == {"tree": ["other"], "vehicle": ["brush"], "unheard of": ["brush"], None: ["brush"]}


def test_only_the_picture_that_masks_are_written_on_counts():
    read = parse('<Image name="a" value="$a"/><Image name="b" value="$b"/>', BRUSH.replace('"image"', '"b"'))
    assert (read.image_name, read.data_key) == ("b", "b")


def test_controls_of_other_objects_and_texts_for_people_are_no_prompts():
    read = parse(
        IMAGE,
        '<Text name="text" value="$text"/>',
        BRUSH,
        '<TextArea name="prompt" toName="image"/>',
        '<TextArea name="caption" toName="text"/>',
        '<TextArea name="note" toName="image" perRegion="true"/>',
        '<TextArea name="off" toName="image" smart="false"/>',
        '<TextArea name="message" toName="text" model_message="true"/>',
    )
    assert read.not_prompts == {"caption", "note", "off", "message"}
    assert read.message == MessageControl("message", "text")


def test_unknown_attributes_and_tags_are_passed_over():
    assert parse(IMAGE, BRUSH, '<Wizard name="w" toName="image" spell="x"/>', "<!-- note -->").message is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("red circle", "red circle"),
        ("Red  CIRCLES", "red circle"),
        ("truck", "vehicle"),
        ("Cars", "vehicle"),
        ("vehicle", "vehicle"),
        ("tree", None),
    ],
)
def test_a_text_means_the_label_whose_value_alias_or_predicted_value_it_is(text, label):
    assert parse(IMAGE, BRUSH).label_for(text) == label


def test_any_text_means_the_only_label():
    read = parse(IMAGE, '<BrushLabels name="b" toName="image"><Label value="thing"/></BrushLabels>')
    assert read.label_for("tree") == read.label_for(None) == "thing"


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (config(BRUSH), "no Image tag. Add <Image"),
        (config(IMAGE), "no control to write masks to. Add <BrushLabels"),
        ("<View></View>", "no Image tag"),
        ("", "not valid XML"),
        ("<View>", "not valid XML"),
        ("{}", "not valid XML"),
        (
            config(IMAGE, BRUSH.replace('toName="image"', 'toName="img"')),
            'BrushLabels "brush": toName .* toName="image"',
        ),
        (config(IMAGE, BRUSH.replace('toName="image"', "")), 'BrushLabels "brush": toName'),
        (config(IMAGE, BRUSH.replace('name="brush"', "")), "BrushLabels needs a name"),
        (config('<Image name="image" valueList="$images"/>', BRUSH), 'Image "image": value must name a field'),
        (config('<Image name="image" value="http://host/a.png"/>', BRUSH), 'write for example value="\\$image"'),
        ("<View>" + "x" * 1_000_001 + "</View>", "longer than 1000000 characters"),
        ("<View>\ud800</View>", "labelling config"),
    ],
)
def test_a_config_that_cannot_be_used_says_what_to_write(xml, message):
    with pytest.raises(InvalidLabelConfig, match=message):
        LabelConfig.parse(xml)


@pytest.mark.parametrize(
    ("attribute", "value", "allowed"),
    [
        ("model_score_threshold", "1.5", "a number from 0 to 1"),
        ("model_score_threshold", "nan", "a number from 0 to 1"),
        ("model_score_threshold", "high", "a number from 0 to 1"),
        ("model_score_threshold", "", "a number from 0 to 1"),
        ("model_max_regions", "0", "a whole number, 1 or more"),
        ("model_max_regions", "2.5", "a whole number, 1 or more"),
    ],
)
def test_an_impossible_tuning_value_names_control_attribute_and_what_is_allowed(attribute, value, allowed):
    with pytest.raises(InvalidLabelConfig, match=f'BrushLabels "brush": {attribute} must be {allowed}, not "{value}"'):
        parse(IMAGE, BRUSH.replace("smart=", f'{attribute}="{value}" smart='))


def test_tuning_is_read_from_any_control_of_the_picture():
    point = '<KeyPointLabels name="p" toName="image" model_max_regions="7"/>'
    tuning = parse(IMAGE, BRUSH.replace("smart=", 'model_score_threshold="0.3" smart='), point).tuning
    assert (tuning.score_threshold, tuning.max_regions) == (0.3, 7)


def test_two_controls_that_contradict_each_other_are_refused():
    point = '<KeyPointLabels name="p" toName="image" model_max_regions="7"/>'
    with pytest.raises(InvalidLabelConfig, match=r"model_max_regions is \"7\" here and \"8\" on another tag"):
        parse(IMAGE, BRUSH.replace("smart=", 'model_max_regions="8" smart='), point)


def test_hostile_xml_is_refused_at_once():
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    began = time.monotonic()
    with pytest.raises(InvalidLabelConfig, match="without DTD"):
        LabelConfig.parse(f"<!DOCTYPE v [{entities}]><View>&a9;</View>")
    with pytest.raises(InvalidLabelConfig, match="without DTD"):
        LabelConfig.parse('<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]><View>&x;</View>')
    with pytest.raises(InvalidLabelConfig):
        LabelConfig.parse("<v>" * 200_000 + "</v>" * 140_000)
    assert time.monotonic() - began < 30  # seconds, not the ages such a text is made for


def test_the_signature_is_blind_to_colours_order_and_white_space():
    plain = parse(IMAGE, BRUSH)
    dressed = parse(
        "\n  ",
        '<Image zoom="true" value="$image" name="image"/>',
        '<BrushLabels toName="image" name="brush" opacity="0.5">\n'
        '<Label predicted_values="truck,car" background="#ff0000" alias="vehicle" value="Car" hotkey="c"/>\n'
        '<Label background="blue" value="red circle"/>\n</BrushLabels>',
        '<KeyPointLabels name="p" toName="image" smart="true"><Label value="red circle"/></KeyPointLabels>',
    )
    assert plain.signature == dressed.signature


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('value="red circle"', 'value="blue circle"'),
        ('predicted_values="car, truck"', 'predicted_values="car"'),
        ('alias="vehicle"', 'alias="auto"'),
        ('name="brush"', 'name="paint"'),
        ('smart="false"', 'model_score_threshold="0.4"'),
        ('smart="false"', 'model_max_regions="4"'),
        ('value="$image"', 'value="$photo"'),
    ],
)
def test_the_signature_changes_with_prompts_thresholds_and_output(old, new):
    changed = config(IMAGE, BRUSH).replace(old, new)
    assert changed != config(IMAGE, BRUSH)
    assert LabelConfig.parse(changed).signature != parse(IMAGE, BRUSH).signature


def test_label_studios_own_reader_agrees_on_stored_names():
    official = LabelInterface(config(IMAGE, BRUSH)).get_control("brush").labels
    assert [label.stored_name for label in parse(IMAGE, BRUSH).labels] == list(official)
