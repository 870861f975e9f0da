"""The labelling configs that people copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_studio_sdk.label_interface import LabelInterface

from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.tasks import label_prompts

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGS = {path.parent.name: path.read_text() for path in sorted(EXAMPLES.glob("*/label_config.xml"))}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_is_a_config_that_can_be_answered(name):
    config = LabelConfig.parse(CONFIGS[name])
    assert config.outputs
    assert config.data_key


@pytest.mark.parametrize("name", CONFIGS)
def test_label_studio_takes_an_example_too(name):
    LabelInterface(CONFIGS[name]).validate()


def test_the_tags_example_looks_for_what_its_labels_stand_for():
    asked = [(each.text, each.label) for each in label_prompts(LabelConfig.parse(CONFIGS["tags"]), {})]
    assert asked == [
        ("car", "Vehicle"),
        ("truck", "Vehicle"),
        ("bus", "Vehicle"),
        ("Person", "Person"),
        ("tree", "vegetation"),
        ("bush", "vegetation"),
    ]


def test_the_recommended_example_tells_the_annotator_why():
    assert LabelConfig.parse(CONFIGS["recommended"]).message is not None


def test_any_prompt_of_the_click_example_takes_its_only_label():
    assert LabelConfig.parse(CONFIGS["click"]).label_for("whatever") == "object"
