"""What is recorded gives what the code gives, for other sizes than those it was recorded with, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from sam3_backend.model.click_head import _Kind
from sam3_backend.model.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_backend import Predictor

RANDOM = torch.Generator().manual_seed(1)


@pytest.mark.parametrize("pictures", [1, 2, 3])
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("refines", [True, False])
@torch.inference_mode()
def test_clicks_are_decoded_alike(demo: Predictor, *, pictures: int, multimask: bool, refines: bool) -> None:
    head, features = demo._network.tracker_model, [_features(demo) for _ in range(pictures)]
    kind, record = _Kind(pictures, multimask), Recorded(head._one_pass)
    for points in (1, 12, 3, 1):
        prompts = [_prompt(demo, points, refines=refines) for _ in range(pictures)]
        parts = [each for same in (*zip(*prompts, strict=True), *zip(*features, strict=True)) for each in same]
        expected = head._one_pass(kind, *parts)
        for _ in range(3):  # the second call of a recording is another one than the first
            for ours, theirs in zip(record(kind, *parts), expected, strict=True):
                assert torch.equal(ours, theirs)


def test_on_a_cpu_clicks_of_every_kind_are_recorded_before_anybody_clicks(
    demo: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = demo._network.tracker_model
    monkeypatch.setattr(head, "_pass", Recorded(head._one_pass))  # other tests have asked the one that was there
    demo.warm_up()
    known = set(head._pass._recordings)
    embedding = demo.encode(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy())
    first = demo.segment(embedding, points=[(5, 5)])
    demo.segment(embedding, points=[(5, 5, 1), (9, 9, 0)], mask_logits=first.mask_logits[0])
    demo.segment(embedding, points=[(5, 5, 1), (9, 9, 0), (3, 3, 1)], box=(1, 1, 40, 40))
    demo.segment(embedding, box=(1, 1, 40, 40), multimask=True)
    asked = [demo.clicks.question(embedding, [(5, 5)], None, None, None, 0.5)] * demo.pace.clicks_at_once
    demo.clicks.answer(asked)
    assert set(head._pass._recordings) == known


def test_each_kind_is_recorded_once_and_apart() -> None:
    calls: list[Any] = []

    def scaled(kind: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append((kind, len(tensors)))
        return tuple(kind * each for each in tensors)

    record, one = Recorded(scaled), torch.ones(1)
    for _ in range(2):
        assert [float(each) for each in record(2, one)] == [2]
        assert [float(each) for each in record(3, one)] == [3]
        assert [float(each) for each in record(3, one, 2 * one)] == [3, 6]
    assert calls == [(2, 1), (3, 1), (3, 2)]


def _features(demo: Predictor) -> Sequence[torch.Tensor]:
    side = demo.low_res_size_px // 4
    channels = demo._network.tracker_model.no_memory_embedding.shape[-1]
    shapes = [(1, channels // 8, 4 * side, 4 * side), (1, channels // 4, 2 * side, 2 * side), (1, channels, side, side)]
    return [torch.randn(shape, generator=RANDOM) for shape in shapes]


def _prompt(demo: Predictor, points: int, *, refines: bool) -> Sequence[torch.Tensor]:
    marks = demo.input_size_px * torch.rand(1, points, 2, generator=RANDOM)
    kinds = torch.randint(0, 4, (1, points), generator=RANDOM)
    side = demo.low_res_size_px
    return [marks, kinds, torch.randn(1, side, side, generator=RANDOM)] if refines else [marks, kinds]
