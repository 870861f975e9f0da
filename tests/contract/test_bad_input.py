"""What goes wrong with single tasks and prompts costs them alone, and says why."""

from __future__ import annotations

import json
import math
import re

import pytest
from recorded import recorded

LONG_TEXT = " ".join(["very"] * 40 + ["red", "circle"])


def failure_of(prediction):
    assert prediction["result"] == []
    version, code, message = re.fullmatch(r"(\S+?-\w{10}):(\w+): (.+)", prediction["model_version"]).groups()
    assert version.startswith("sam3-backend/colours:c0104125-")
    return code, message


def prompt(value):
    def change(body):
        body["params"]["context"]["result"][0]["value"].update(value)

    return change


@pytest.mark.parametrize(
    "value", [{"x": 100.5}, {"y": -3}, {"x": math.nan}, {"x": math.inf}, {"x": "12"}, {"y": None}], ids=str
)
def test_a_point_that_cannot_be_is_named_and_asks_nothing_of_the_model(value, replay, predictor):
    (result,) = replay("predict_interactive_keypoint", prompt(value))["results"]
    code, message = failure_of(result)
    assert code == "invalid_prompt"
    assert "place it again" in message.lower()
    assert predictor.calls["segment"] == 0


def test_a_text_longer_than_the_model_reads_is_named(replay):
    (result,) = replay("predict_interactive_text", prompt({"text": [LONG_TEXT]}))["results"]
    assert failure_of(result)[0] == "invalid_prompt"


def test_prompts_from_controls_nobody_knows_are_answered_by_their_kind(replay):
    def change(body):
        body["params"]["context"]["result"][0].update(from_name="long gone", to_name="elsewhere")

    (result,) = replay("predict_interactive_keypoint", change)["results"]
    assert len(result["result"]) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"image": "/data/upload/16/missing.gif"}, "image_unreachable"),
        ({"image": "data:image/png;base64,iVBORw0KGgo="}, "image_undecodable"),
        ({"image": "ftp://host/a.png"}, "image_forbidden"),
        ({"image": "http://169.254.169.254/latest/meta-data"}, "image_forbidden"),
        ({"photo": "/data/upload/16/a.png"}, "invalid_request"),
        ({"image": None}, "invalid_request"),
        (None, "invalid_request"),
    ],
    ids=str,
)
def test_one_bad_picture_costs_one_empty_result(data, code, replay):
    def change(body):
        good, second = body["tasks"]
        body["tasks"] = [good, second | {"data": data}, second]

    first, failed, last = replay("predict_batch", change)["results"]
    assert failure_of(failed)[0] == code
    for other in (first, last):
        assert len(other["result"]) == 3


def test_a_failed_task_is_asked_for_again_because_its_version_differs(replay):
    def change(body):
        body["tasks"][1]["data"]["image"] = "/data/upload/16/missing.gif"

    good, failed = replay("predict_batch", change)["results"]
    assert failed["model_version"] != good["model_version"]
    assert failed["model_version"].startswith(good["model_version"])


def test_a_label_studio_that_never_introduced_itself_is_said_to_be_unknown(client):
    body = recorded("predict_interactive_keypoint")["body"]
    (result,) = client.post("/predict", data=json.dumps(body), content_type="application/json").json["results"]
    assert "LABEL_STUDIO_URL" in failure_of(result)[1]
