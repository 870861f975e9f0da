"""Every request that a real Label Studio was seen to send, against the whole server but the model."""

from __future__ import annotations

import re

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface
from recorded import PAYLOADS, masks_in, recorded

from tests.overlap import iou

WEBHOOKS = sorted(path.stem for path in PAYLOADS.glob("webhook_*.json"))
PREDICTS = sorted(path.stem for path in PAYLOADS.glob("predict_*.json"))

# Requests that the recorded stand-in answered with the very masks the prompts ask for.
EXACT = [
    "predict_batch",
    "predict_interactive_keypoint",
    "predict_interactive_keypoint_2",
    "predict_interactive_keypoint_negative",
    "predict_interactive_keypoint_other_label",
    "predict_interactive_rectangle",
    "predict_interactive_task_with_annotation",
    "predict_interactive_text",
    "predict_on_open_task",
    "predict_test",
]


@pytest.mark.parametrize("name", EXACT)
def test_masks_and_labels_are_those_the_prompts_ask_for(name, replay):
    answered, expected = replay(name)["results"], recorded(name)["answer"]["results"]
    assert len(answered) == len(expected)
    for ours, theirs in zip(answered, expected, strict=True):
        for (label, mask), (expected_label, expected_mask) in zip(masks_in(ours), masks_in(theirs), strict=True):
            assert label == expected_label
            assert np.array_equal(mask, expected_mask)


@pytest.mark.parametrize("name", PREDICTS)
def test_every_answer_is_one_that_label_studio_takes(name, replay):
    body = recorded(name)["body"]
    results = replay(name)["results"]
    assert len(results) == len(body["tasks"])
    for prediction in results:
        assert LabelInterface(body["label_config"]).validate_prediction(prediction, return_errors=True) == []
        for region in prediction["result"]:
            assert {"id", "from_name", "to_name", "type", "original_width", "original_height"} <= region.keys()
            total = int.from_bytes(bytes(region["value"]["rle"][:4]), "big")
            assert total == region["original_width"] * region["original_height"] * 4


@pytest.mark.parametrize("name", EXACT)
def test_a_streams_bytes_are_those_of_label_studios_own_encoder(name, replay):
    for ours, theirs in zip(replay(name)["results"], recorded(name)["answer"]["results"], strict=True):
        for region, expected in zip(ours["result"], theirs["result"], strict=True):
            assert region["value"]["rle"] == expected["value"]["rle"]


def test_two_rectangles_give_two_regions(replay, truth):
    (result,) = replay("predict_interactive_rectangle_2")["results"]
    # The second rectangle holds nothing, and nothing is no region.
    ((label, mask),) = masks_in(result)
    assert label == "blue square"
    assert np.array_equal(mask, truth["blue square"])


def test_each_text_finds_its_own_and_takes_the_label_it_means(replay, truth):
    (result,) = replay("predict_interactive_text_2")["results"]
    found = masks_in(result)
    assert [label for label, _ in found].count("blue square") == 1
    # "red circle, green" is no label's name.
    unlabelled = [mask for label, mask in found if label is None]
    assert len(unlabelled) == 2
    assert np.array_equal(np.logical_or.reduce(unlabelled), truth["red circle"] | truth["green triangle"])


def test_answered_choices_and_numbers_ride_along(replay, truth):
    (result,) = replay("predict_interactive_text_choices_number")["results"]
    assert any(np.array_equal(mask, truth["blue square"]) for _, mask in masks_in(result))


def test_a_picture_stored_on_its_side_is_answered_upright(replay, truth):
    (result,) = replay("predict_interactive_exif6")["results"]
    (region,) = result["result"]
    assert (region["original_width"], region["original_height"]) == (800, 600)
    ((label, mask),) = masks_in(result)
    assert label == "blue square"
    assert iou(mask, truth["blue square"]) > 0.99


def test_an_empty_context_is_answered_without_picture_and_model(replay, studio, predictor):
    (result,) = replay("predict_interactive_empty_context")["results"]
    assert result["result"] == []
    assert studio.asked == []
    assert set(predictor.calls.values()) == {0}


def test_pictures_of_all_kinds_are_answered_and_one_that_is_not_to_be_had_costs_its_own_result(replay, studio):
    def change(body):
        body["tasks"][3]["data"]["image"] = "http://127.0.0.1:9/pic.jpg"  # somebody else's, on a loopback address

    results = replay("predict_batch_image_sources", change)["results"]
    local_absolute, data_uri, s3, foreign, local_relative = results
    for result in (local_absolute, s3, local_relative):
        assert [label for label, _ in masks_in(result)] == ["red circle", "blue square", "green triangle"]
    assert [region["original_width"] for region in data_uri["result"]] == [40]
    assert foreign["result"] == []
    assert ":image_forbidden: " in foreign["model_version"]
    assert {each["model_version"] for each in results if each is not foreign} == {local_absolute["model_version"]}


def test_one_picture_is_encoded_once_for_all_tasks_and_requests(replay, predictor):
    for _ in range(2):
        replay("predict_batch")
    replay("predict_interactive_keypoint")
    assert predictor.calls["encode"] == 1


def test_the_clients_claim_of_the_size_is_not_believed(replay, truth):
    def change(body):
        for region in body["params"]["context"]["result"]:
            region.update(original_width=10, original_height=99999)

    (result,) = replay("predict_interactive_keypoint", change)["results"]
    ((_, mask),) = masks_in(result)
    assert np.array_equal(mask, truth["blue square"])


def test_predictions_carry_setups_version(replay, client):
    version = replay("setup_on_add")["model_version"]
    assert {each["model_version"] for each in replay("predict_batch")["results"]} == {version}
    assert client.get("/versions").json == {"versions": [version]}


@pytest.mark.parametrize("extra", [None, "null", '{"confidence": 0.4}', {"confidence": 0.4}, "rubbish"])
def test_extra_params_of_any_kind_are_accepted(extra, replay):
    assert replay("setup_on_add", lambda body: body.update(extra_params=extra))["model_version"]


@pytest.mark.parametrize("name", WEBHOOKS)
def test_webhooks_are_taken_note_of(name, replay):
    assert replay(name) == {"status": "ok"}


def test_health_is_up(replay):
    assert replay("health_get")["status"] == "UP"


def test_versions_are_a_list(replay):
    assert isinstance(replay("versions_get")["versions"], list)


def test_a_config_that_cannot_be_answered_is_an_error_a_person_can_act_on(client):
    body = recorded("setup_on_add")["body"] | {"schema": "<View><Text name='t' value='$t'/></View>"}
    answer = client.post("/setup", json=body)
    assert answer.status_code == 400
    assert answer.json["error"]["code"] == "invalid_label_config"
    assert "Image tag" in answer.json["error"]["message"]


def test_no_token_is_recorded():
    for path in PAYLOADS.glob("*.json"):
        found = re.findall(r'"(?:access_token|token|password)": (null|"[^"]*")', path.read_text())
        assert set(found) <= {"null", '"redacted"', '"<redacted>"'}
