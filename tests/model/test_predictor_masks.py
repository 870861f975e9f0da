"""Masks are brought to the picture's size exactly, with the memory of one mask's own extent."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sam3_backend.model.postprocessing import fill_holes, to_mask


def _blobs(side: int, seed: int, level: float) -> np.ndarray:
    """(side, side) float32 smooth noise, positive in a few regions."""
    coarse = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed)) - level
    noise = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(seed + 1))
    return (interpolate(coarse, size=(side, side), mode="bicubic") + 0.1 * noise)[0, 0].numpy()


def _whole_picture(logits: np.ndarray, picture_hw: tuple[int, int]) -> np.ndarray:
    """The plain way: interpolate the whole picture, then cut at zero."""
    return (interpolate(torch.from_numpy(logits)[None, None], size=picture_hw, mode="bilinear")[0, 0] > 0).numpy()


@pytest.mark.parametrize("picture_hw", [(480, 720), (1080, 1920), (1081, 1917), (288, 288), (64, 1000), (100, 80)])
@pytest.mark.parametrize("level", [-1.0, 0.5, 2.0])
def test_masks_have_the_pixels_of_whole_picture_interpolation(picture_hw: tuple[int, int], level: float) -> None:
    for seed in range(3):
        logits = _blobs(288, seed, level)
        ours = to_mask(logits, picture_hw).to_array()
        assert np.array_equal(ours, _whole_picture(logits, picture_hw))


@pytest.mark.parametrize("where", [(0, 0), (0, 287), (287, 0), (287, 287), (100, 200)])
def test_a_single_positive_logit_is_found_wherever_it_is(where: tuple[int, int]) -> None:
    logits = np.full((288, 288), -1, np.float32)
    logits[where] = 5
    ours = to_mask(logits, (1000, 1500))
    assert np.array_equal(ours.to_array(), _whole_picture(logits, (1000, 1500)))
    assert 0 < ours.crop.size < 200


def test_nothing_positive_is_an_empty_mask() -> None:
    mask = to_mask(np.full((64, 64), -1, np.float32), (300, 400))
    assert mask.area_px == 0
    assert not mask.to_array().any()
    assert not len(mask.transitions())


def test_a_full_mask_covers_every_pixel() -> None:
    assert to_mask(np.ones((64, 64), np.float32), (301, 407)).to_array().all()


def test_fifty_small_masks_of_a_4k_picture_need_no_picture_sized_buffer() -> None:
    logits = np.full((50, 288, 288), -1, np.float32)
    for index in range(50):
        logits[index, 5 * index : 5 * index + 20, 100:140] = 1
    tracemalloc.start()
    masks = [to_mask(each, (2160, 3840)) for each in logits]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = sum(mask.crop.nbytes for mask in masks)
    assert peak - kept < 2160 * 3840


def test_small_holes_are_filled_and_large_ones_are_kept() -> None:
    logits = np.full((288, 288), 3, np.float32)
    logits[50:66, 50:66] = -2  # 256 px: a hole
    logits[150:167, 150:166] = -2  # 272 px: not one
    filled = fill_holes(logits)
    assert (filled[50:66, 50:66] > 0).all()
    assert (filled[150:167, 150:166] < 0).all()
    assert logits.min() == -2
    assert (logits[50:66, 50:66] == -2).all()


def test_a_diagonal_gap_joins_a_hole_to_the_outside() -> None:
    logits = np.full((288, 288), 3, np.float32)
    logits[:, :100] = -2
    logits[10:20, 101:110] = -2
    assert (fill_holes(logits)[10:20, 101:110] > 0).all()
    logits[20, 100] = -2
    assert (fill_holes(logits)[10:20, 101:110] < 0).all()


def test_holes_are_measured_relative_to_the_side() -> None:
    logits = np.full((72, 72), 3, np.float32)
    logits[10:14, 10:14] = -2  # 16 px at 72 are 256 px at 288
    logits[40:45, 40:44] = -2
    filled = fill_holes(logits)
    assert (filled[10:14, 10:14] > 0).all()
    assert (filled[40:45, 40:44] < 0).all()
