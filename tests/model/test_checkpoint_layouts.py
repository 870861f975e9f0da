"""Every published form of a checkpoint loads, and gives the same answers as the others."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3Config, Sam3LiteTextConfig, Sam3VideoConfig, Sam3VideoModel
from transformers.models.sam3.modeling_sam3 import Sam3Model
from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextModel

from sam3_backend import Predictor
from sam3_backend.errors import InvalidPrompt
from sam3_backend.model.architecture import Architecture
from sam3_backend.model.checkpoint import DEMO_DIRECTORY, open_checkpoint
from sam3_backend.model.checkpoint_info import describe_checkpoint
from sam3_backend.model.key_mapping import to_network_names
from sam3_backend.model.network import Sam3Network
from sam3_backend.model.tokens import TextTokens
from sam3_backend.model.transformers_layout import for_pictures
from sam3_backend.model.weights import fingerprint, require_fit

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def demo_copy(tmp_path: Path) -> Path:
    directory = tmp_path / "copy"
    shutil.copytree(DEMO_DIRECTORY, directory)
    return directory


def test_a_copied_directory_answers_like_the_demo(demo: Predictor, demo_copy: Path) -> None:
    copied = Predictor.load(str(demo_copy), device="cpu", dtype="float32")
    assert copied.name == "copy"
    assert copied.fingerprint == demo.fingerprint
    picture = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    ours = copied.segment(copied.encode(picture), points=[(35, 25)])
    theirs = demo.segment(demo.encode(picture), points=[(35, 25)])
    assert np.array_equal(ours.mask_logits, theirs.mask_logits)


def test_sharded_weights_are_one_checkpoint(demo: Predictor, demo_copy: Path) -> None:
    tensors = load_file(demo_copy / "model.safetensors")
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        shard = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in part}, demo_copy / shard)
        index.update(dict.fromkeys(part, shard))
    (demo_copy / "model.safetensors").unlink()
    (demo_copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert fingerprint(open_checkpoint(str(demo_copy))) == demo.checkpoint_fingerprint


def test_the_doubled_prefix_of_a_saved_video_model_is_understood(demo: Predictor, demo_copy: Path) -> None:
    tensors = load_file(demo_copy / "model.safetensors")
    doubled = {name.replace("tracker_model.", "tracker_model.tracker_model."): each for name, each in tensors.items()}
    save_file(doubled, demo_copy / "model.safetensors")
    assert fingerprint(open_checkpoint(str(demo_copy))) == demo.checkpoint_fingerprint


def test_one_changed_tensor_changes_the_fingerprint(demo: Predictor, demo_copy: Path) -> None:
    tensors = load_file(demo_copy / "model.safetensors")
    tensors["detector_model.text_projection.bias"] = tensors["detector_model.text_projection.bias"] + 1
    save_file(tensors, demo_copy / "model.safetensors")
    assert fingerprint(open_checkpoint(str(demo_copy))) != demo.checkpoint_fingerprint


def test_the_published_layout_may_be_wrapped_under_model(reference_checkpoint: Path, tmp_path: Path) -> None:
    bare = open_checkpoint(str(reference_checkpoint))
    published = torch.load(reference_checkpoint, mmap=True, weights_only=True)
    torch.save({"model": published, "epoch": 3}, tmp_path / "wrapped.pt")
    shutil.copy(reference_checkpoint.parent / "config.json", tmp_path)
    wrapped = open_checkpoint(str(tmp_path / "wrapped.pt"))
    (tmp_path / "wrapped.pt").unlink()
    assert fingerprint(wrapped) == fingerprint(bare)


def test_a_directory_with_only_a_published_file_is_that_file(reference_checkpoint: Path) -> None:
    assert open_checkpoint(str(reference_checkpoint.parent)).name == "sam3.pt"


def test_published_weights_are_views_of_the_file(reference_checkpoint: Path) -> None:
    published = torch.load(reference_checkpoint, mmap=True, weights_only=True)
    stacked = published["detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight"]
    query = to_network_names(published)["detector_model.vision_encoder.backbone.layers.0.attention.q_proj.weight"]
    assert query.data_ptr() == stacked.data_ptr()


def test_the_clip_vocabulary_gives_the_official_ids() -> None:
    # Ids as OpenAI's CLIP gives them.
    assert TextTokens.of_clip().ids("yellow school bus") == [49406, 4481, 1228, 2840, 49407]
    assert TextTokens.of_clip().ids("  Visual \n") == [49406, 7195, 49407]
    assert TextTokens.of_clip().ids("a photo of a cat's café") == [49406, 320, 1125, 539, 320, 2368, 568, 15304, 49407]


def test_a_detector_alone_answers_texts_and_refuses_clicks(tmp_path: Path) -> None:
    config = json.loads((DEMO_DIRECTORY / "config.json").read_text())["detector_config"]
    Sam3Model(Sam3Config(**config)).save_pretrained(tmp_path)
    shutil.copy(DEMO_DIRECTORY / "tokenizer.json", tmp_path)
    predictor = Predictor.load(str(tmp_path), device="cpu", dtype="float32")
    predictor.warm_up()
    embedding = predictor.encode(np.zeros((40, 40, 3), np.uint8))
    assert predictor.detect(embedding, text="circle", threshold=1.0).found == ()
    with pytest.raises(InvalidPrompt, match="no click decoder"):
        predictor.segment(embedding, points=[(1, 1)])


def test_a_lite_text_directory_loads_and_answers_like_transformers(tmp_path: Path) -> None:
    config = json.loads((DEMO_DIRECTORY / "config.json").read_text())["detector_config"]
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {"vocab_size": 1420, "projection_dim": 64, "max_position_embeddings": 32, **small}
    config |= {"model_type": "sam3_lite_text", "text_config": text}
    torch.manual_seed(0)
    theirs = Sam3LiteTextModel(Sam3LiteTextConfig(**{name: config[name] for name in config if name != "model_type"}))
    theirs.eval().save_pretrained(tmp_path)
    shutil.copy(DEMO_DIRECTORY / "tokenizer.json", tmp_path)
    predictor = Predictor.load(str(tmp_path), device="cpu", dtype="float32")
    assert describe_checkpoint(str(tmp_path)).text_tower == "LiteText"
    ids = TextTokens.from_file(tmp_path / "tokenizer.json").ids("red circle")
    padded = torch.tensor([ids + [1] * (32 - len(ids))])
    mask = torch.tensor([[1] * len(ids) + [0] * (32 - len(ids))])
    with torch.inference_mode():
        expected = theirs.get_text_features(input_ids=padded, attention_mask=mask).pooler_output[:, : len(ids)]
        ours = predictor.concepts.text_features("red circle")
    assert torch.allclose(ours, expected, atol=1e-5)
    predictor.warm_up()


def test_the_demo_is_described() -> None:
    info = describe_checkpoint("demo")
    assert info.kind == "transformers directory"
    assert info.heads == ("concepts", "clicks")
    assert not info.is_published
    assert info.files[0].size_bytes == (DEMO_DIRECTORY / "model.safetensors").stat().st_size
    assert len(info.files[0].sha256) == 64


def test_a_published_file_is_described(reference_checkpoint: Path) -> None:
    info = describe_checkpoint(str(reference_checkpoint))
    assert (info.kind, info.heads, info.is_published) == ("sam3.pt", ("concepts", "clicks"), False)
    assert (info.input_size_px, info.low_res_size_px, info.layers, info.width) == (1008, 288, 4, 128)
    assert info.dtypes == ("float32",)


def test_the_published_dimensions_are_those_of_848_million_parameters_and_of_transformers_video_model() -> None:
    with torch.device("meta"):
        network = Sam3Network(Architecture.published())
        video = Sam3VideoModel(Sam3VideoConfig())
    assert sum(each.numel() for each in network.parameters()) == pytest.approx(848e6, rel=0.01)
    require_fit(network.state_dict(), for_pictures(video.state_dict()))
    from_config = Architecture.from_json(Sam3VideoConfig().to_dict())
    assert from_config.to_json() == Architecture.published().to_json()


def test_a_config_of_an_older_transformers_describes_the_same_network() -> None:
    backbone = {"model_type": "sam3_vit_model", "rope_theta": 10000.0, "qkv_bias": True, "window_size": 24}
    vision = {"model_type": "sam3_vision_model", "num_feature_levels": 3, "backbone_config": backbone}
    decoder = {"model_type": "sam3_detr_decoder", "box_rpb_mode": "log", "use_presence_token": True}
    detector = {"model_type": "sam3", "vision_config": vision, "detr_decoder_config": decoder, "torch_dtype": None}
    tracker = {"model_type": "sam3_tracker_video", "prompt_encoder_config": {"model_type": "", "image_size": 1008}}
    config = {"model_type": "sam3_video", "detector_config": detector, "tracker_config": tracker}
    with torch.device("meta"):
        old, published = Sam3Network(Architecture.from_json(config)), Sam3Network(Architecture.published())
    require_fit(old.state_dict(), published.state_dict())
    assert old.architecture.detector.vision_config.backbone_config.rope_parameters["rope_theta"] == 10000.0


@pytest.mark.parametrize("revision", ["v1", "refs/pr/2", "0" * 40])
def test_a_pinned_checkpoint_stays_what_it_was_when_its_branch_moves_on(
    revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached, old, new = tmp_path / "models--some--model", "0" * 40, "1" * 40
    for commit, threshold in ((old, 0.25), (new, 0.75)):
        shutil.copytree(DEMO_DIRECTORY, cached / "snapshots" / commit)
        (cached / "snapshots" / commit / "sam3_backend.json").write_text(f'{{"default_threshold": {threshold}}}')
    for name, commit in (("v1", old), ("refs/pr/2", old), ("main", new)):
        reference = cached / "refs" / name
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
    pinned = open_checkpoint(f"some/model@{revision}", offline=True)
    assert (pinned.name, pinned.tuning.default_threshold) == (f"some/model@{revision}", 0.25)
    assert open_checkpoint("some/model", offline=True).tuning.default_threshold == 0.75
