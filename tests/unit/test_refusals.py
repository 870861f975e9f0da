"""Refusals that an annotator can read."""

from __future__ import annotations

from typing import Any

import pytest

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.refusals import told

FAULT = InvalidLabelConfig("The labelling config has no Image tag.")
UNUSABLE = """<View>
  <Text name="status" value="Messages"/>
  <TextArea name="message" toName="status" model_message="true"/>
</View>"""
POINT = {"from_name": "point", "type": "keypointlabels", "value": {"x": 1, "y": 1}}


def payload(xml: Any, result: Any) -> dict[str, Any]:
    return {"label_config": xml, "tasks": [{"id": 1}], "params": {"context": {"result": result}}}


def test_a_prompt_that_is_refused_is_answered_in_the_message_control():
    (prediction,) = told(payload(UNUSABLE, [POINT]), FAULT, "demo")["results"]
    (region,) = prediction["result"]
    assert (region["from_name"], region["to_name"], region["type"]) == ("message", "status", "textarea")
    assert region["value"] == {"text": [FAULT.message]}
    assert prediction["model_version"] == f"demo:invalid_label_config: {FAULT.message}"


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"label_config": UNUSABLE, "params": {"context": None}},
        {"label_config": UNUSABLE, "params": "nonsense"},
        payload(UNUSABLE, []),
        payload("<View/>", [POINT]),
        payload("<View", [POINT]),
        payload(None, [POINT]),
    ],
)
def test_where_nobody_waits_or_nothing_can_be_shown_the_refusal_stays_an_error(request_body):
    assert told(request_body, FAULT, "demo") is None
