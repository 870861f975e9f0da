"""Answered Choices and Numbers as parameters of the moment."""

from __future__ import annotations

import pytest

from sam3_backend.errors import InvalidLabelConfig, InvalidPrompt
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.parameters import CHOICES, Moment, read_moment
from sam3_backend.label_studio.tuning import Tuning

BRUSH = '<BrushLabels name="brush" toName="image"><Label value="car"/></BrushLabels>'


def parameters(*controls: str) -> dict[str, str]:
    config = f'<View><Image name="image" value="$image"/>{BRUSH}{"".join(controls)}</View>'
    return dict(LabelConfig.parse(config).parameters)


def choices(*chosen: str) -> dict[str, object]:
    return {"from_name": "mode", "type": "choices", "value": {"choices": list(chosen)}}


def number(value: object, name: str = "threshold") -> dict[str, object]:
    return {"from_name": name, "type": "number", "value": {"number": value}}


def moment(*regions: dict[str, object], tuning: Tuning = Tuning(max_regions=7)) -> Moment:  # noqa: B008
    known = {"mode": "mode", "threshold": "score_threshold", "most": "max_regions", "least": "min_area"}
    return read_moment(regions, known, tuning)


def test_controls_are_parameters_by_their_names():
    found = parameters(
        '<Choices name="mode" toName="image"><Choice value="best only"/></Choices>',
        '<Number name="threshold" toName="image"/>',
        '<Number name="thr" toName="image"/>',
        '<Number name="model_max_regions" toName="image"/>',
        '<Number name="wheels" toName="image"/>',
        '<Choices name="quality" toName="image"><Choice value="good"/></Choices>',
    )
    assert found == {
        "mode": "mode",
        "threshold": "score_threshold",
        "thr": "score_threshold",
        "model_max_regions": "max_regions",
    }


def test_controls_are_parameters_where_an_attribute_says_so():
    found = parameters(
        '<Number name="how sure" toName="image" model_parameter="score_threshold"/>',
        '<Choices name="what" toName="image" model_parameter="mode"><Choice value="Cut" alias="segment"/></Choices>',
    )
    assert found == {"how sure": "score_threshold", "what": "mode"}


def test_a_parameter_on_the_wrong_control_is_refused():
    with pytest.raises(InvalidLabelConfig, match=r'Number "n": model_parameter="mode" must be on a Choices'):
        parameters('<Number name="n" toName="image" model_parameter="mode"/>')
    with pytest.raises(InvalidLabelConfig, match=r'Choices "c": model_parameter="nms_iou" must be on a Number'):
        parameters('<Choices name="c" toName="image" model_parameter="nms_iou"/>')


def test_a_choice_that_means_nothing_is_refused_where_choices_were_meant_as_a_parameter():
    unknown = '<Choices name="c" toName="image" model_parameter="mode"><Choice value="fast"/></Choices>'
    with pytest.raises(InvalidLabelConfig, match=r'Choices "c": a choice .* "best only", not "fast"'):
        parameters(unknown)


def test_an_answered_number_takes_the_place_of_the_configs():
    assert moment(number(0.35)).tuning == Tuning(score_threshold=0.35, max_regions=7)
    assert moment(number(3.0, "most")).tuning.max_regions == 3
    assert moment(number(25, "least")).tuning.min_area == (25, 0)


def test_an_answered_choice_sets_the_mode_or_how_many():
    assert moment(choices("Exemplar")).mode == "exemplar"
    assert moment(choices("best only")).tuning.max_regions == 1
    assert moment(choices("all instances")).tuning.max_regions == 7
    assert moment(choices("something for people")) == Moment(Tuning(max_regions=7))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_known_choice_may_stand_in_a_config(choice):
    control = f'<Choices name="c" toName="image" model_parameter="mode"><Choice value="{choice}"/></Choices>'
    assert parameters(control) == {"c": "mode"}


@pytest.mark.parametrize("value", [35, -0.1, "high", True, [1], float("nan")])
def test_a_number_out_of_range_is_the_annotators_to_mend(value):
    with pytest.raises(InvalidPrompt, match=r'"threshold" must be a number from 0 to 1, not'):
        moment(number(value))


@pytest.mark.parametrize(
    "region",
    [
        number(None),
        {"from_name": "threshold", "value": None},
        {"from_name": "threshold"},
        {"from_name": ["threshold"], "value": {"number": 0.3}},
        {"from_name": "other", "value": {"number": 99}},
        {"from_name": "mode", "value": {"choices": "best only"}},
    ],
)
def test_odd_answers_are_passed_over(region):
    assert moment(region) == Moment(Tuning(max_regions=7))
