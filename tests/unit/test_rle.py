from __future__ import annotations

import itertools

import numpy as np
import pytest
from label_studio_sdk.converter import brush
from pycocotools import mask as coco

from sam3_backend.label_studio import rle
from sam3_backend.masks import Mask


def _disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((y - height / 2) ** 2 + (x - width / 3) ** 2) < (min(height, width) / 3) ** 2


def _structured() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    stripes = np.zeros((40, 50), dtype=bool)
    stripes[:, ::2] = True
    corners = np.zeros((31, 17), dtype=bool)
    corners[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    rows = np.zeros((9, 64), dtype=bool)
    rows[2:5] = True
    long_run = np.zeros((300, 200), dtype=bool)
    long_run[1:-1] = True
    return {
        "empty": np.zeros((33, 57), dtype=bool),
        "full": np.ones((33, 57), dtype=bool),
        "one pixel, outside": np.zeros((1, 1), dtype=bool),
        "one pixel, inside": np.ones((1, 1), dtype=bool),
        "one row": rng.random((1, 301)) < 0.5,
        "one column": rng.random((301, 1)) < 0.5,
        "disc": _disc(123, 77),
        "stripes": stripes,
        "corners": corners,
        "whole rows": rows,
        "large empty": np.zeros((500, 700), dtype=bool),
        "large full": np.ones((500, 700), dtype=bool),
        "runs longer than 65536 values": long_run,
        "noise": rng.random((64, 63)) < 0.5,
        "sparse noise": rng.random((97, 101)) < 0.02,
    }


STRUCTURED = _structured()
each_mask = pytest.mark.parametrize("array", STRUCTURED.values(), ids=STRUCTURED.keys())


def _official(array: np.ndarray) -> list[int]:
    return brush.mask2rle(array.astype(np.uint8) * 255)


@each_mask
def test_stream_is_the_official_encoders_byte_for_byte(array):
    assert rle.encode_mask(Mask.from_array(array)) == _official(array)


def test_stream_is_the_official_encoders_on_random_masks_of_any_size():
    rng = np.random.default_rng(11)
    for _ in range(150):
        height, width = rng.integers(1, 90, 2)
        array = rng.random((height, width)) < rng.random()
        assert rle.encode_mask(Mask.from_array(array)) == _official(array)


def test_run_lengths_at_every_boundary_of_the_run_sizes_match_the_official_encoder():
    for run_px in [1, 2, 3, 4, 5, 63, 64, 65, 16383, 16384, 16385, 32768, 32769, 32832, 49152]:
        array = np.zeros((1, run_px + 7), dtype=bool)
        array[0, 3 : 3 + run_px] = True
        assert rle.encode_mask(Mask.from_array(array)) == _official(array), run_px


def test_elements_are_plain_integers():
    assert {type(each) for each in rle.encode_mask(Mask.from_array(STRUCTURED["disc"]))} == {int}


def test_label_studios_own_decoder_reads_four_channels_of_255():
    array = STRUCTURED["disc"]
    pixels = brush.decode_rle(rle.encode_mask(Mask.from_array(array))).reshape(*array.shape, 4)
    assert np.array_equal(pixels, np.repeat(array[..., None] * 255, 4, axis=2))


@each_mask
def test_a_mask_comes_back_as_it_went(array):
    height, width = array.shape
    stream = rle.encode_mask(Mask.from_array(array))
    assert np.array_equal(rle.decode(stream, width, height), array)
    assert np.array_equal(rle.decode(bytes(stream), width, height), array)


def _page_like_stream(values: np.ndarray) -> bytes:
    """A stream as the page writes it, where values that do not repeat stand as they are."""
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    singles: list[int] = []

    def flush() -> str:
        written = f"010{len(singles) - 1:08b}" + "".join(f"{each:08b}" for each in singles) if singles else ""
        singles.clear()
        return written

    for value, group in itertools.groupby(values.tolist()):
        count = len(list(group))
        if count == 1:
            singles.append(value)
            if len(singles) == 256:
                bits += flush()
            continue
        bits += flush()
        while count:
            part = min(count, 65536)
            bits += f"111{part - 1:016b}{value:08b}"
            count -= part
    bits += flush()
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_a_hand_drawn_stroke_is_read_by_its_alpha():
    rng = np.random.default_rng(3)
    alpha = np.where(STRUCTURED["disc"], 255, 0)
    height, width = alpha.shape
    colours = rng.integers(0, 256, (height, width, 3))
    stream = _page_like_stream(np.dstack([colours, alpha]).astype(np.uint8).ravel())
    assert np.array_equal(brush.decode_rle(list(stream)).reshape(height, width, 4)[..., 3], alpha)
    assert np.array_equal(rle.decode(stream, width, height), STRUCTURED["disc"])


def test_a_stream_for_another_size_is_refused():
    with pytest.raises(ValueError, match="a 56x33 picture has"):
        rle.decode(rle.encode_mask(Mask.from_array(STRUCTURED["full"])), 56, 33)


@pytest.mark.parametrize("kept_bytes", [0, 3, 4, 6, 7, 8, 20])
def test_a_stream_cut_short_is_refused(kept_bytes):
    stream = rle.encode_mask(Mask.from_array(STRUCTURED["disc"]))[:kept_bytes]
    with pytest.raises(ValueError, match="ls_rle"):
        rle.decode(stream, 77, 123)


def test_values_that_the_stream_announces_and_does_not_hold_are_refused():
    bits = f"{400:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111" + "011" + "1" * 16 + "0" * 32
    bits += "0" * (-len(bits) % 8)
    with pytest.raises(ValueError, match="within a token"):
        rle.decode(int(bits, 2).to_bytes(len(bits) // 8, "big"), 10, 10)


@each_mask
def test_coco_string_is_pycocotools(array):
    expected = coco.encode(np.asfortranarray(array.astype(np.uint8)))
    assert rle.encode_coco(Mask.from_array(array)) == {
        "size": list(array.shape),
        "counts": expected["counts"].decode(),
    }


def test_coco_string_is_pycocotools_on_random_masks_of_any_size():
    rng = np.random.default_rng(5)
    for _ in range(150):
        height, width = rng.integers(1, 300, 2)
        array = rng.random((height, width)) < rng.random() ** 3
        expected = coco.encode(np.asfortranarray(array.astype(np.uint8)))["counts"].decode()
        assert rle.encode_coco(Mask.from_array(array))["counts"] == expected


def test_the_cost_follows_the_object_and_not_the_picture():
    crop = np.ones((3, 4), dtype=bool)
    picture_hw = (20_000, 40_000)
    stream = rle.encode_mask(Mask(crop=crop, origin_xy_px=(7, 9), picture_hw=picture_hw))
    assert int.from_bytes(bytes(stream[:4]), "big") == 20_000 * 40_000 * 4
    assert rle.encode_coco(Mask(crop=crop, origin_xy_px=(7, 9), picture_hw=picture_hw))["size"] == [20_000, 40_000]
