"""Text prompts as people write them."""

from __future__ import annotations

import pytest

from sam3_backend.errors import InvalidPrompt, InvalidRequest
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.text_prompts import data_prompts, unique, written_prompts

CONFIG = LabelConfig.parse(
    """<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">
    <Label value="Car" alias="vehicle"/><Label value="tree"/></BrushLabels></View>"""
)
PLAIN = LabelConfig.parse('<View><Image name="image" value="$image"/><Brush name="brush" toName="image"/></View>')


def written(text: str, config: LabelConfig = CONFIG) -> list[tuple[str | None, str | None]]:
    return [(prompt.text, prompt.label) for prompt in written_prompts(text, config)]


def in_data(value: object) -> list[tuple[str | None, str | None]]:
    return [(prompt.text, prompt.label) for prompt in data_prompts(value, "caption", CONFIG)]


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("trees", [("trees", "tree")]),
        ("red car; pickup", [("red car", None), ("pickup", None)]),
        ("car: red car; pickup", [("red car", "vehicle"), ("pickup", "vehicle")]),
        ("Cars: pickup; tree: oak; elm", [("pickup", "vehicle"), ("oak", "tree"), ("elm", "tree")]),
        ("tree: car", [("car", "tree")]),
        (" tree : ; ;oak;", [("oak", "tree")]),
        ("tree:", []),
        ("", []),
        ("red circle, green", [("red circle, green", None)]),
    ],
)
def test_semicolons_part_prompts_and_a_colon_names_their_label(text, prompts):
    assert written(text) == prompts


def test_an_unknown_label_is_said_so_with_those_there_are():
    with pytest.raises(InvalidPrompt, match=r'no label "bus"\. Before a colon write one of: "Car", "tree"'):
        written("bus: double decker")


def test_without_labels_a_colon_is_a_character():
    assert written("sign: stop", PLAIN) == [("sign: stop", None)]


@pytest.mark.parametrize(
    ("value", "prompts"),
    [
        ("tree: oak; elm\npickup", [("oak", "tree"), ("elm", "tree"), ("pickup", None)]),
        (["oak", "car: pickup"], [("oak", None), ("pickup", "vehicle")]),
        ({"tree": ["oak", "elm"], "vehicle": "pickup"}, [("oak", "tree"), ("elm", "tree"), ("pickup", "vehicle")]),
        ("", []),
        ([], []),
        ([None], []),
    ],
)
def test_prompts_in_a_tasks_data_may_be_a_text_a_list_or_texts_by_label(value, prompts):
    assert in_data(value) == prompts


def test_data_that_holds_no_texts_is_refused():
    with pytest.raises(InvalidRequest, match='field "caption" must hold a text'):
        in_data(7)
    with pytest.raises(InvalidPrompt, match='no label "bus"'):
        in_data({"bus": "x"})


def test_one_question_is_asked_once_for_each_label():
    prompts = [*written_prompts("Oak; oak; tree: oak; OAK", CONFIG)]
    assert [(each.text, each.label) for each in unique(prompts)] == [("Oak", None), ("oak", "tree")]
