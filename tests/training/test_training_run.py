"""A very small training run, from scratch, on one core: everything is wired and repeats itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import torch
from tiny import TINY, tiny_run

from sam3_backend import Predictor
from training.batches import draw_pictures, to_pictures, to_prompts
from training.concepts import Concept
from training.losses import assign, mask_loss
from training.muon import orthogonalised
from training.network import Network
from training.shapes import Settings, draw
from training.words import known_words

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_leaves_a_checkpoint_that_answers(trained: Path) -> None:
    predictor = Predictor.load(str(trained), device="cpu")
    embedding = predictor.encode(draw(1).image)
    assert predictor.segment(embedding, points=[(50, 50)]).mask_logits.shape == (3, 32, 32)
    assert 0 <= predictor.detect(embedding, text="red circle", threshold=0.0).presence_score <= 1


def test_the_same_seed_trains_the_same_weights(trained: Path, tmp_path: Path) -> None:
    again = tiny_run(tmp_path)
    assert (again / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_another_seed_trains_other_weights(trained: Path, tmp_path: Path) -> None:
    other = tiny_run(tmp_path, seed=1, steps=1)
    assert (other / "model.safetensors").read_bytes() != (trained / "model.safetensors").read_bytes()


def test_a_run_can_be_resumed(trained: Path) -> None:
    state = torch.load(trained / "state.pt", weights_only=True)
    assert state["done"] == 1.0
    assert state["step"] == 3
    assert all(torch.isfinite(value).all() for value in state["average"])


def test_the_command_goes_on_with_a_run(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    state = torch.load(run / "state.pt", weights_only=True)
    torch.save({**state, "done": 0.0}, run / "state.pt")
    wanted = ["--steps", "1", "--batch", "2", "--masked", "1", "--clicked", "1", "--objects", "2"]
    command = [sys.executable, "-m", "training.train", "--out", str(run), "--resume", "--workers", "1", *wanted]
    subprocess.run(command, check=True)
    assert torch.load(run / "state.pt", weights_only=True)["step"] > state["step"]
    assert (run / "model.safetensors").read_bytes() != (trained / "model.safetensors").read_bytes()


def test_an_export_says_how_large_it_is(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["low_res_mask_size"] == TINY.low_res
    assert config["detector_config"]["detr_decoder_config"]["num_queries"] == TINY.queries


def test_cover_is_the_share_of_each_cell() -> None:
    scene = draw(5, raster_px=112)
    pictures = to_pictures([scene], 32)
    for i, instance in enumerate(scene.instances):
        assert np.isclose(float(pictures.cover[0, i].sum()) * 3.5**2, instance.mask.sum(), rtol=1e-3)


def test_every_target_gets_one_query_and_no_query_two() -> None:
    pictures = draw_pictures(range(6), Settings(count=(6, 12)), 112, 32)
    prompt, query, target, excused = assign(pictures.boxes, pictures.shape >= 0, 9)
    pairs = list(zip(prompt.tolist(), query.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert len(set(zip(prompt.tolist(), target.tolist(), strict=True))) == len(pairs)
    assert len(pairs) == sum(min(9, len(a)) for a in pictures.attributes)
    assert not excused[prompt, query].any()


def test_a_right_mask_costs_next_to_nothing() -> None:
    cover = (torch.rand(3, 32, 32) > 0.5).float()
    assert float(mask_loss(20 * (2 * cover - 1), cover).max()) < 0.01
    assert float(mask_loss(-20 * (2 * cover - 1), cover).min()) > 1


def test_muon_steps_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(2, 24, 48)))
    assert 0.4 < float(values.min()) <= float(values.max()) < 1.4


def test_prompts_are_padded_to_one_length(trained: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(trained)
    prompts = to_prompts(
        tokenizer, [(0, Concept("red circle", (), (0,))), (0, Concept("visual", (((0, 0, 1, 1), 1),), (0,)))]
    )
    assert prompts.token_ids.shape == (2, 10)
    assert prompts.token_mask.sum(1).tolist() == [4, 3]
    assert prompts.boxes[1, 0].tolist() == [0.5, 0.5, 1.0, 1.0]


def test_a_network_has_one_image_encoder() -> None:
    network = Network(TINY)
    assert network.tracker.vision_encoder.backbone is network.detector.vision_encoder.backbone


def test_every_known_word_is_one_token(trained: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(trained)
    assert {word: len(tokenizer(word)["input_ids"]) for word in known_words()} == dict.fromkeys(known_words(), 3)
