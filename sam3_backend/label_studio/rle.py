"""Masks as run lengths, in Label Studio's bit stream (``ls_rle``) and in COCO's compressed string (``coco_rle``).

Both are written from a mask's transitions, so the cost follows the object's outline and not the picture's size. This
module knows neither regions nor labels.

Label Studio's stream, most significant bit first, as its page and its SDK read it (the format is thi.ng's rle-pack)::

    32 bits   how many values follow: 4 per pixel (red, green, blue, alpha), row by row
     5 bits   word size - 1
    4 x 4 bits  four run sizes - 1
    tokens    1 | 2-bit index of a run size | run length - 1 | value            a run of one value
              0 | 2-bit index of a run size | count - 1      | count values     values as they are
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from sam3_backend.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]
    BoolArray = npt.NDArray[np.bool_]

CHANNELS = 4
"""Label Studio stores RGBA; a mask has the same value in all four."""
INSIDE = 255
"""The value of the object's pixels. The page stores a 1 just as well, and shows nothing."""

_WORD_BITS = 8
_RUN_BITS = (3, 4, 8, 16)
_SIZES = np.asarray(_RUN_BITS, dtype=np.int64)
_LONGEST_RUN = 1 << _RUN_BITS[-1]
_HEADER_BITS = 32 + 5 + 4 * len(_RUN_BITS)
_WINDOW_BYTES = 5
_SEXTETS = 7  # 35 bits: more than any picture has pixels


class CocoRle(TypedDict):
    """COCO's compressed run lengths: ``size`` is (height, width) in pixels, ``counts`` the string."""

    size: list[int]
    counts: str


def encode_mask(mask: Mask) -> list[int]:
    """``ls_rle`` of a mask, byte for byte what Label Studio's own encoder writes.

    Args:
        mask: The object's pixels.

    Returns:
        Byte values, [0, 255], of a stream of exactly width * height * 4 values; the page breaks on any other length.
    """
    height, width = mask.picture_hw
    runs_px, values = _alternating_runs(mask.transitions(), height * width)
    return _pack(height * width * CHANNELS, runs_px * CHANNELS, values)


def decode(ls_rle: Sequence[int] | bytes, width: int, height: int) -> BoolArray:
    """The mask in an ``ls_rle``, whoever wrote it.

    Args:
        ls_rle: Byte values, [0, 255].
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.

    Returns:
        (height, width) bool, True where the alpha channel is not zero.

    Raises:
        ValueError: The stream ends early, or was written for a picture of another size.
    """
    stream = bytes(ls_rle)
    total = int.from_bytes(stream[:4], "big")
    if total != width * height * CHANNELS:
        raise ValueError(f"the ls_rle holds {total} values, a {width}x{height} picture has {width * height * CHANNELS}")
    lengths, values = _unpack(stream)
    # Alpha is every fourth value: pixel i starts before value n exactly if i < n // 4.
    ends_px = np.cumsum(lengths) // CHANNELS
    if not len(ends_px) or ends_px[-1] < width * height:
        raise ValueError("the ls_rle ends before the picture does")
    spans_px = np.diff(np.minimum(ends_px, width * height), prepend=0)
    return np.repeat(values > 0, spans_px).reshape(height, width)


def encode_coco(mask: Mask) -> CocoRle:
    """``coco_rle`` of a mask, as pycocotools writes it: column-major runs in a compressed string."""
    (x, y), (height, width) = mask.origin_xy_px, mask.picture_hw
    upended = Mask(crop=mask.crop.T, origin_xy_px=(y, x), picture_hw=(width, height))
    counts = np.diff(upended.transitions(), prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    # From the fourth on, a count is written as its difference to the one two before.
    deltas = counts.copy()
    deltas[3:] -= counts[1:-2]
    return CocoRle(size=[height, width], counts=_sextets(deltas))


def _alternating_runs(transitions: IntArray, total_px: int) -> tuple[IntArray, IntArray]:
    """Run lengths in pixels over the whole picture and their values, 0 and ``INSIDE`` in turn, none of them empty."""
    runs = np.diff(transitions, prepend=0, append=total_px)
    values = np.where(np.arange(len(runs)) % 2, INSIDE, 0)
    is_real = runs > 0
    return runs[is_real], values[is_real]


def _pack(total: int, lengths: IntArray, values: IntArray) -> list[int]:
    """The finished stream of ``total`` values: the header, then one token per run, or several for a long one."""
    index = np.searchsorted(1 << _SIZES, lengths).clip(max=len(_RUN_BITS) - 1)
    pieces = (lengths - 1) // _LONGEST_RUN + 1
    if len(pieces) < pieces.sum():
        # Every piece of a long run is written in the largest size, however short the last one is.
        rests = lengths - (pieces - 1) * _LONGEST_RUN
        index, values = np.repeat(index, pieces), np.repeat(values, pieces)
        lengths = np.full(len(index), _LONGEST_RUN, dtype=np.int64)
        lengths[np.cumsum(pieces) - 1] = rests

    widths = 3 + _SIZES[index] + _WORD_BITS
    tokens = 1 << widths - 1 | index << widths - 3 | lengths - 1 << _WORD_BITS | values
    starts = np.cumsum(widths) - widths + _HEADER_BITS
    # A last byte that is already full is followed by a whole byte of zeros: the official encoder does so.
    stream = np.zeros((_HEADER_BITS + int(widths.sum())) // 8 + 1 + _WINDOW_BYTES, dtype=np.uint8)
    stream[: len(_header(total))] = _header(total)
    # At most 27 bits long, a token lies within the 40 bits from its first byte on. At least 14 bits long, no two of
    # them begin in the same byte, so plain indexing meets each byte once and may "or" them in.
    first_byte = starts >> 3
    tokens <<= 8 * _WINDOW_BYTES - widths - (starts & 7)
    for place in range(_WINDOW_BYTES):
        stream[first_byte + place] |= (tokens >> 8 * (_WINDOW_BYTES - 1 - place) & 0xFF).astype(np.uint8)
    return list(stream[:-_WINDOW_BYTES].tobytes())  # twice as fast as numpy's own tolist


def _header(total: int) -> npt.NDArray[np.uint8]:
    """The stream's first ``_HEADER_BITS``, filled up with zeros to whole bytes."""
    header = total << 5 | _WORD_BITS - 1
    for size in _RUN_BITS:
        header = header << 4 | size - 1
    return np.frombuffer((header << -_HEADER_BITS % 8).to_bytes(-(-_HEADER_BITS // 8), "big"), dtype=np.uint8)


def _unpack(stream: bytes) -> tuple[IntArray, IntArray]:
    """Run lengths and values of all the tokens; values "as they are" come as runs of one."""
    word, *run_bits = (1 + int(_read(stream, at, bits)) for at, bits in ((32, 5), (37, 4), (41, 4), (45, 4), (49, 4)))
    entries = np.asarray(_walk(stream, word, run_bits), dtype=np.int64)
    is_run = entries >= 0
    starts = entries[is_run]
    sizes = np.asarray(run_bits, dtype=np.int64)[_read(stream, starts + 1, 2)]
    lengths = np.ones(len(entries), dtype=np.int64)
    lengths[is_run] = 1 + _read(stream, starts + 3, sizes)
    values_at = ~entries
    values_at[is_run] = starts + 3 + sizes
    return lengths, _read(stream, values_at, word)


def _walk(stream: bytes, word: int, run_bits: list[int]) -> list[int]:
    """Where each token begins, in bits; a value that stands as it is gives ``~`` of its own place instead."""
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8))
    run_widths = 3 + word + np.asarray(run_bits, dtype=np.uint8)
    # The width of the token that would begin at each bit, 0 for one of values as they are.
    width_at = (bits[:-2] * run_widths[2 * bits[1:-1] + bits[2:]]).tobytes()
    at, entries = _HEADER_BITS, []
    last_start = len(bits) - 3 - min(run_bits) - word
    while at <= last_start:
        width = width_at[at]
        if width:
            entries.append(at)
            at += width
        else:
            size = run_bits[int(_read(stream, at + 1, 2))]
            count = 1 + int(_read(stream, at + 3, size))
            end = at + 3 + size + word * count
            entries.extend(range(~(at + 3 + size), ~min(end, len(bits)), -word))
            at = end
    if at > len(bits):
        raise ValueError("the ls_rle ends within a token")
    return entries


def _read(stream: bytes, at: IntArray | int, bits: IntArray | int) -> IntArray:
    """The unsigned numbers of ``bits`` (at most 33) bits that begin at bit ``at``."""
    padded = np.frombuffer(stream + bytes(_WINDOW_BYTES), dtype=np.uint8)
    first_byte = np.asarray(at, dtype=np.int64) >> 3
    window = np.zeros(first_byte.shape, dtype=np.int64)
    for place in range(_WINDOW_BYTES):
        window = window << 8 | padded[np.minimum(first_byte + place, len(padded) - 1)]
    return window >> 8 * _WINDOW_BYTES - (np.asarray(at) & 7) - bits & (np.int64(1) << bits) - 1


def _sextets(numbers: IntArray) -> str:
    """Signed numbers as characters of 5 bits and a "more follows" bit each, lowest bits first, counted from "0"."""
    places = np.arange(0, 5 * _SEXTETS, 5)
    digits = numbers[:, None] >> places & 0x1F
    rest = numbers[:, None] >> places + 5
    has_more = np.where(digits & 0x10, rest != -1, rest != 0)
    is_used = np.logical_and.accumulate(np.pad(has_more[:, :-1], ((0, 0), (1, 0)), constant_values=True), axis=1)
    characters: npt.NDArray[np.uint8] = (digits + 0x20 * has_more + ord("0"))[is_used].astype(np.uint8)
    return characters.tobytes().decode("ascii")
