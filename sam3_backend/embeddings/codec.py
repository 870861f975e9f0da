"""Embeddings as bytes: a small versioned header in front of the raw values, never a pickle.

::

    magic "SAM3EMB1" | header length, uint32 | CRC-32 of header and values, uint32 | header, JSON | values

All integers little-endian. The header names the embedding's key, the picture's size, and each tensor's name, dtype and
shape in the order of the values. Anything else — another version, a truncated or foreign value, another key — is a
``CacheError``. Knows neither Redis nor torch: tensors come and go as ``HostTensor``.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sam3_backend.embeddings.embedding import EmbeddingKey

PREFIX = struct.Struct("<8sII")
MAGIC = b"SAM3EMB1"
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class HostTensor:
    """Values of a tensor in host memory, row-major.

    Attributes:
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        shape: Its shape.
        values: The raw little-endian values.
    """

    dtype: str
    shape: tuple[int, ...]
    values: memoryview

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.values.nbytes


@dataclass(frozen=True, slots=True)
class HostEmbedding:
    """An embedding whose tensors are in host memory; see ``Embedding`` for the attributes."""

    key: EmbeddingKey
    picture_hw: tuple[int, int]
    tensors: Mapping[str, HostTensor]


def to_bytes(embedding: HostEmbedding) -> bytes:
    """The embedding as one value for a shared store."""
    header = json.dumps(
        {
            "key": str(embedding.key),
            "picture_hw": embedding.picture_hw,
            "tensors": [[name, each.dtype, each.shape] for name, each in embedding.tensors.items()],
        },
        separators=(",", ":"),
    ).encode()
    parts: list[bytes | memoryview] = [header, *(each.values for each in embedding.tensors.values())]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([PREFIX.pack(MAGIC, len(header), checksum), *parts])


def from_bytes(value: bytes, key: EmbeddingKey) -> HostEmbedding:
    """Read what ``to_bytes`` wrote; the tensors are views of ``value``, nothing is copied.

    Args:
        value: The stored bytes.
        key: What they must be the embedding of.

    Raises:
        CacheError: They are not, or they are damaged.
    """
    header, values = _open(value)
    try:
        return _read(header, values, key)
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise CacheError("The stored embedding's header is not of this version.") from fault


def _read(header: bytes, values: memoryview, key: EmbeddingKey) -> HostEmbedding:
    """The embedding that a header describes; any error but ``CacheError`` says that the header is none of ours."""
    described: dict[str, Any] = json.loads(header)
    if described["key"] != str(key):
        raise CacheError("The stored embedding belongs to another picture or checkpoint.")
    tensors: dict[str, HostTensor] = {}
    at = 0
    for name, dtype, shape in described["tensors"]:
        nbytes = math.prod(shape) * ITEM_BYTES[dtype]
        tensors[name] = HostTensor(dtype, tuple(shape), values[at : at + nbytes])
        at += nbytes
    if at != values.nbytes:
        raise CacheError("The stored embedding has other values than its header describes.")
    height_px, width_px = described["picture_hw"]
    return HostEmbedding(key, (height_px, width_px), tensors)


def _open(value: bytes) -> tuple[bytes, memoryview]:
    """The header and the values, once the checksum says that both are as they were written."""
    if len(value) < PREFIX.size:
        raise CacheError("The stored value is no embedding.")
    magic, header_bytes, checksum = PREFIX.unpack_from(value)
    if magic != MAGIC:
        raise CacheError("The stored value is no embedding of this version.")
    body = memoryview(value)[PREFIX.size :]
    if zlib.crc32(body) != checksum:
        raise CacheError("The stored embedding is damaged: its checksum is wrong.")
    return bytes(body[:header_bytes]), body[header_bytes:]
