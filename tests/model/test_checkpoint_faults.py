"""A checkpoint that cannot be used says so in one sentence with the way out, and nothing in it is executed."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam3_backend import Predictor
from sam3_backend.errors import CheckpointError, SettingsError
from sam3_backend.model import weights
from sam3_backend.model.checkpoint import DEMO_DIRECTORY, open_checkpoint
from sam3_backend.model.hub import download
from sam3_backend.model.published_layout import read_published
from tests.local_http import serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(DEMO_DIRECTORY, copy)
    return copy


def _complaint(checkpoint: Path | str) -> str:
    """What a person reads; always one line."""
    with pytest.raises(CheckpointError) as caught:
        Predictor.load(str(checkpoint), device="cpu", dtype="float32")
    assert "\n" not in caught.value.message
    return caught.value.message


def _change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def test_a_name_that_is_nothing_lists_what_it_could_be() -> None:
    assert "no such directory or file" in _complaint("/nowhere/at/all")
    assert "'demo'" in _complaint("weights.pt")


def test_a_missing_tensor_is_named(directory: Path) -> None:
    name = "tracker_model.no_memory_embedding"
    _change_weights(directory, lambda tensors: tensors.pop(name))
    assert f"1 missing: {name}." in _complaint(directory)


def test_an_unexpected_tensor_is_named(directory: Path) -> None:
    _change_weights(directory, lambda tensors: tensors.update({"detector_model.surprise": torch.zeros(1)}))
    assert "1 unexpected: detector_model.surprise." in _complaint(directory)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(directory: Path) -> None:
    name = "detector_model.text_projection.bias"
    _change_weights(directory, lambda tensors: tensors.update({name: torch.zeros(3)}))
    assert f"{name} is (3,) instead of (" in _complaint(directory)


def test_a_whole_head_missing_is_an_error_where_the_config_promises_it(directory: Path) -> None:
    def behead(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("tracker_")]:
            del tensors[name]

    _change_weights(directory, behead)
    assert "missing: tracker_" in _complaint(directory)


def test_dimensions_that_do_not_fit_the_weights_are_an_error(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["detector_config"]["text_config"]["num_hidden_layers"] = 1
    (directory / "config.json").write_text(json.dumps(config))
    assert "unexpected: detector_model.text_encoder" in _complaint(directory)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": "wide"}, "config.json"),
        ({"hidden_size": 100, "num_attention_heads": 0}, "config.json"),
    ],
)
def test_impossible_dimensions_are_an_error(directory: Path, change: dict[str, object], said: str) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["detector_config"]["vision_config"]["backbone_config"].update(change)
    (directory / "config.json").write_text(json.dumps(config))
    assert said in _complaint(directory)


def test_another_kind_of_model_is_named(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "bert"}')
    assert "'bert'" in _complaint(directory)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_config_that_is_no_json_object_is_an_error(directory: Path, content: str) -> None:
    (directory / "config.json").write_text(content)
    assert "config.json" in _complaint(directory)


def test_a_directory_without_config_or_weights_says_which_is_missing(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    assert "no model.safetensors" in _complaint(directory)
    (directory / "config.json").unlink()
    assert "config.json is missing" in _complaint(directory)


def test_a_missing_shard_is_named(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks model-1.safetensors" in _complaint(directory)


def test_truncated_safetensors_are_damaged(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    assert "damaged or incomplete" in _complaint(directory)


def test_a_tuning_that_does_not_exist_is_named(directory: Path) -> None:
    (directory / "sam3_backend.json").write_text('{"mask_mns_iou": 0.5}')
    assert "mask_mns_iou" in _complaint(directory)


@pytest.mark.parametrize("value", ['"high"', "2", "-1"])
def test_a_tuning_out_of_range_is_named(directory: Path, value: str) -> None:
    (directory / "sam3_backend.json").write_text(f'{{"default_threshold": {value}}}')
    assert "default_threshold" in _complaint(directory)


def test_a_broken_tokenizer_is_an_error(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{}")
    assert "tokenizer" in _complaint(directory)


def test_a_truncated_published_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "sam3.pt"
    torch.save({"detector.a": torch.zeros(100_000)}, path)
    path.write_bytes(path.read_bytes()[:200_000])
    assert "damaged or incomplete" in _complaint(path)


def test_whichever_byte_is_wrong_the_complaint_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "sam3.pt"
    torch.save({"detector.a": torch.zeros(4)}, path)
    content = path.read_bytes()
    pickled = content.index(b"data.pkl") + len("data.pkl")
    complaints = []
    for place in range(pickled, pickled + 300):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            read_published(path)
        except CheckpointError as fault:
            complaints.append(fault.message)
    assert len(complaints) > 50
    assert all("\n" not in each for each in complaints)


class _Payload:
    """Unpickling it would create a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def test_code_in_a_published_file_is_not_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "sam3.pt", tmp_path / "executed"
    torch.save({"detector.a": _Payload(trace)}, path)
    assert "possibly code" in _complaint(path)
    assert not trace.exists()


def test_code_in_a_bare_pickle_is_not_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "sam3.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps(_Payload(trace)))
    assert "could execute code" in _complaint(path)
    assert not trace.exists()


def test_another_models_file_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pt"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    assert "conv1.weight" in _complaint(path)
    for other in ([torch.zeros(1)], {0: torch.zeros(1)}, {"detector.a": 1}):
        torch.save(other, path)
        assert "does not hold a dictionary of tensors" in _complaint(path)


def test_a_sam_3_1_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "sam3.1.pt"
    name = "tracker.model.interactive_sam_mask_decoder.iou_token.weight"
    torch.save({"detector.a": torch.zeros(1), name: torch.zeros(1)}, path)
    assert "SAM 3.1" in _complaint(path)


def test_a_published_file_names_what_it_lacks(tmp_path: Path, reference_checkpoint: Path) -> None:
    published = torch.load(reference_checkpoint, mmap=True, weights_only=True)
    del published["tracker.no_mem_embed"]
    published["detector.surprise.weight"] = torch.zeros(1)
    torch.save(published, tmp_path / "sam3.pt")
    shutil.copy(reference_checkpoint.parent / "config.json", tmp_path)
    message = _complaint(tmp_path / "sam3.pt")
    assert "missing: tracker_model.no_memory_embedding." in message
    assert "unexpected: detector.surprise.weight." in message
    (tmp_path / "sam3.pt").unlink()


def test_a_small_published_file_without_its_config_does_not_fit(reference_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "sam3.pt").symlink_to(reference_checkpoint)
    assert "config.json that belongs to these weights" in _complaint(tmp_path / "sam3.pt")


def test_a_file_of_another_ending_is_no_checkpoint() -> None:
    assert "name a sam3.pt" in _complaint(DEMO_DIRECTORY / "model.safetensors")


def _answer(status: int, error_code: str = "") -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        if error_code:
            request.send_header("X-Error-Code", error_code)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"{}")

    return send


@pytest.mark.parametrize(
    ("status", "error_code", "said"),
    [
        (401, "GatedRepo", "Ask for access"),
        (403, "GatedRepo", "Ask for access"),
        (401, "", "set HF_TOKEN"),
        (403, "", "set HF_TOKEN"),
        (404, "RepoNotFound", "knows no some/model"),
        (500, "", "answered 500"),
    ],
)
def test_a_hub_that_refuses_says_what_to_do(
    status: int, error_code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with serve() as hub:
        hub.routes["/api/models/some/model/revision/main"] = _answer(status, error_code)
        with pytest.raises(CheckpointError, match=said):
            download("some/model", token="hf_wrong", offline=False, endpoint=hub.base)
        assert hub.seen[0].headers["authorization"] == "Bearer hf_wrong"


def test_a_revision_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with serve() as hub:
        hub.routes["/api/models/some/model/revision/v9"] = _answer(404, "RevisionNotFound")
        with pytest.raises(CheckpointError, match="some/model has no revision 'v9'"):
            download("some/model@v9", token=None, offline=False, endpoint=hub.base)


def test_no_network_is_told_apart_from_no_permission() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(CheckpointError, match="hub cannot be reached"):
            download("some/model", token=None, offline=False, endpoint=endpoint)


def test_offline_without_the_files_says_so() -> None:
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids"):
        open_checkpoint("some/model", offline=True)
    with pytest.raises(CheckpointError, match="some/model@v9 is not on this machine"):
        open_checkpoint("some/model@v9", offline=True)


def test_a_device_or_precision_that_does_not_exist_names_the_variable() -> None:
    with pytest.raises(SettingsError, match="DEVICE"):
        Predictor.load("demo", device="quantum")
    with pytest.raises(SettingsError, match="DTYPE"):
        Predictor.load("demo", dtype="int3")


def test_a_device_without_room_for_the_model_says_the_way_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has a total of ...")

    monkeypatch.setattr(weights, "build", build)
    complaint = _complaint("demo")
    assert "demo does not fit" in complaint
    assert "DEVICE=cpu" in complaint
