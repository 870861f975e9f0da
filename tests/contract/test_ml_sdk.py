"""The model class inside the real ``label-studio-ml`` SDK's own server. Skipped where that SDK is not installed."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from recorded import masks_in, recorded

# The SDK opens an SQLite file when it is imported, in the directory that this names.
os.environ.setdefault("MODEL_DIR", tempfile.mkdtemp(prefix="label-studio-ml-"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    api = pytest.importorskip("label_studio_ml.api", reason="the label-studio-ml SDK 2.x is not installed")
    from sam3_backend.label_studio import ml_sdk

# The SDK's code is not held to our rule that warnings are errors.
pytestmark = pytest.mark.filterwarnings("default")

EXAMPLE = Path(__file__).parents[2] / "examples" / "label_studio_ml"


@pytest.fixture
def built(backend, monkeypatch):
    """How often a backend was built; it is the one with a model that sees colours."""
    counted = SimpleNamespace(times=0)

    def build(_settings):
        counted.times += 1
        return backend

    monkeypatch.setattr(ml_sdk, "build_backend", build)
    monkeypatch.setattr(ml_sdk, "_backends", [])
    return counted


@pytest.fixture
def client(built):
    """Requests reach the SDK's server instead of ours, so that ``replay`` sends to it."""
    return api.init_app(ml_sdk.Sam3Model).test_client()


def test_health_names_the_model_class(client):
    assert client.get("/health").json == {"status": "UP", "model_class": "Sam3Model"}


def test_setup_gives_the_version_that_predictions_carry(replay):
    version = replay("setup_on_add")["model_version"]
    (result,) = replay("predict_interactive_keypoint")["results"]
    assert result["model_version"] == version


@pytest.mark.parametrize("name", ["predict_batch", "predict_interactive_keypoint_negative", "predict_interactive_text"])
def test_masks_and_labels_are_those_the_prompts_ask_for(name, replay):
    for ours, theirs in zip(replay(name)["results"], recorded(name)["answer"]["results"], strict=True):
        for (label, mask), (expected_label, expected) in zip(masks_in(ours), masks_in(theirs), strict=True):
            assert label == expected_label
            assert np.array_equal(mask, expected)


def test_an_empty_context_is_answered_without_the_model(replay, predictor):
    (result,) = replay("predict_interactive_empty_context")["results"]
    assert result["result"] == []
    assert predictor.calls["encode"] == 0


def test_the_model_is_loaded_once_for_all_requests(replay, built):
    for _ in range(3):
        replay("predict_interactive_keypoint")
    assert built.times == 1


def test_a_failed_task_leaves_the_others_alone(replay):
    def change(body):
        body["tasks"][0]["data"] = {}

    failed, good = replay("predict_batch", change)["results"]
    assert ":invalid_request: " in failed["model_version"]
    assert len(good["result"]) == 3


def test_a_config_that_cannot_be_answered_is_no_traceback_at_predict(replay):
    results = replay("predict_batch", lambda body: body.update(label_config="<View></View>"))["results"]
    assert [each["result"] for each in results] == [[], []]
    assert all("Image tag" in each["model_version"] for each in results)


@pytest.mark.parametrize("extra", [None, {"a": 1}, '{"a": 1}', "rubbish"])
def test_extra_params_of_any_kind_are_accepted(extra, replay):
    assert replay("setup_on_add", lambda body: body.update(extra_params=extra))["model_version"]


def test_training_is_taken_note_of(client):
    body = recorded("webhook_START_TRAINING")["body"]
    assert client.post("/webhook", json=body).json["status"] == "ok"


def test_the_example_is_one_that_the_sdk_starts():
    classes = __import__("label_studio_ml.model", fromlist=["x"]).get_all_classes_inherited_LabelStudioMLBase
    assert classes(str(EXAMPLE / "model.py")) == ["Sam3Model"]
    assert (EXAMPLE / "_wsgi.py").is_file()
