"""Pictures of masks, at the cost of the object and not of the picture.

A mask in a PNG is nearly all blank rows. A library packs them anew for every mask, 48 MB at 4000 x 3000; here they are
packed once for each width and put together, which the format allows: parts of a deflate stream that end with a full
flush do not look back. Knows nothing but pixels.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from sam3_backend.masks import Mask

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGBA_OF_8_BITS = bytes([8, 6, 0, 0, 0])
_STREAM_BEGIN, _STREAM_END = b"\x78\x01", b"\x03\x00"
_ADLER_MODULUS = 65521


def png_rgba(mask: Mask) -> bytes:
    """A PNG of the whole picture's size: opaque white on the object, transparent elsewhere."""
    height, width = mask.picture_hw
    (x, y), (h, w) = mask.origin_xy_px, mask.crop.shape
    row_bytes = 1 + 4 * width  # every row begins with the number of its filter: none
    band: npt.NDArray[np.uint8] = np.zeros((h, row_bytes), np.uint8)
    band[:, 1 + 4 * x : 1 + 4 * (x + w)] = np.repeat(mask.crop.astype(np.uint8) * np.uint8(255), 4, axis=1)
    rows = band.tobytes()
    above, below = y, height - y - h
    checksum = _with_blank(zlib.adler32(rows, _with_blank(1, above * row_bytes)), below * row_bytes)
    parts = [
        _STREAM_BEGIN,
        *_blank_rows(above, row_bytes),
        _packed(rows),
        *_blank_rows(below, row_bytes),
        _STREAM_END,
        struct.pack(">I", checksum),
    ]
    header = struct.pack(">II", width, height) + _RGBA_OF_8_BITS
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"".join(parts)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _packed(content: bytes) -> bytes:
    """A part of a deflate stream that stands by itself."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)


def _blank_rows(count: int, row_bytes: int) -> Iterator[bytes]:
    """Blank rows, put together from blocks of 1, 2, 4, ... rows."""
    for power in range(count.bit_length()):
        if count >> power & 1:
            yield _blank_block(row_bytes << power)


@lru_cache(maxsize=256)
def _blank_block(length_bytes: int) -> bytes:
    return _packed(bytes(length_bytes))


def _with_blank(checksum: int, length_bytes: int) -> int:
    """An Adler-32 checksum after so many more zero bytes."""
    low, high = checksum & 0xFFFF, checksum >> 16
    return (high + length_bytes * low) % _ADLER_MODULUS << 16 | low
