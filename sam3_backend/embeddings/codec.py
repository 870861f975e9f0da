"""Embeddings and refinements as bytes: a small versioned header in front of the raw values, never a pickle.

::

    magic | header length, uint32 | CRC-32 of header and values, uint32 | header, JSON | values

All integers little-endian. The magic says what it is, in which version. The header names its key, an embedding's
picture size, and each tensor's name, dtype and shape in the order of the values. Anything else — another version, a
truncated or foreign value, another key — is a ``CacheError``. Knows neither Redis nor torch: an embedding's tensors
come and go as ``HostTensor``.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_backend.embeddings.refinement import Refinement
from sam3_backend.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sam3_backend.embeddings.embedding import EmbeddingKey
    from sam3_backend.embeddings.refinement import RefinementKey

PREFIX = struct.Struct("<8sII")
EMBEDDING_MAGIC = b"SAM3EMB1"
REFINEMENT_MAGIC = b"SAM3REF1"
"""Its version goes up with the layout, and with a change to what the click decoder answers: what an older release
decoded would otherwise be refined by a newer one."""
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
MASK_LOGITS = "mask_logits"


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
    described = {"key": str(embedding.key), "picture_hw": embedding.picture_hw}
    return _packed(EMBEDDING_MAGIC, described, embedding.tensors)


def from_bytes(value: bytes, key: EmbeddingKey) -> HostEmbedding:
    """Read what ``to_bytes`` wrote; the tensors are views of ``value``, nothing is copied.

    Args:
        value: The stored bytes.
        key: What they must be the embedding of.

    Raises:
        CacheError: They are not, or they are damaged.
    """
    with _header_of_this_version():
        described, tensors = _unpacked(EMBEDDING_MAGIC, value, str(key))
        height_px, width_px = described["picture_hw"]
        return HostEmbedding(key, (height_px, width_px), tensors)


def refinement_to_bytes(refinement: Refinement) -> bytes:
    """The refinement as one value for a shared store, bit for bit."""
    logits = refinement.mask_logits
    values = memoryview(logits.astype("<f4").tobytes())
    return _packed(
        REFINEMENT_MAGIC, {"key": str(refinement.key)}, {MASK_LOGITS: HostTensor("float32", logits.shape, values)}
    )


def refinement_from_bytes(value: bytes, key: RefinementKey) -> Refinement:
    """Read what ``refinement_to_bytes`` wrote; arguments and errors are those of ``from_bytes``."""
    with _header_of_this_version():
        _, tensors = _unpacked(REFINEMENT_MAGIC, value, str(key))
        stored = tensors[MASK_LOGITS]
        if len(tensors) != 1 or stored.dtype != "float32" or len(stored.shape) != 2:
            raise CacheError("The stored value holds no mask logits.")
        # A copy: the value's place in memory is no float's, and its header need not be kept.
        logits = np.frombuffer(stored.values, dtype="<f4").reshape(stored.shape).astype(np.float32)
    logits.setflags(write=False)
    return Refinement(key, logits)


def _packed(magic: bytes, described: Mapping[str, Any], tensors: Mapping[str, HostTensor]) -> bytes:
    """Tensors as bytes, behind a header that says what they are."""
    listed = [[name, each.dtype, each.shape] for name, each in tensors.items()]
    header = json.dumps({**described, "tensors": listed}, separators=(",", ":")).encode()
    parts: list[bytes | memoryview] = [header, *(each.values for each in tensors.values())]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join([PREFIX.pack(magic, len(header), checksum), *parts])


def _unpacked(magic: bytes, value: bytes, key: str) -> tuple[dict[str, Any], dict[str, HostTensor]]:
    """The header and the tensors it describes; any error but ``CacheError`` says that the header is none of ours."""
    header, values = _open(magic, value)
    described: dict[str, Any] = json.loads(header)
    if described["key"] != key:
        raise CacheError("The stored value belongs to another picture, prompt or checkpoint.")
    tensors: dict[str, HostTensor] = {}
    at = 0
    for name, dtype, shape in described["tensors"]:
        nbytes = math.prod(shape) * ITEM_BYTES[dtype]
        tensors[name] = HostTensor(dtype, tuple(shape), values[at : at + nbytes])
        at += nbytes
    if at != values.nbytes:
        raise CacheError("The stored value holds something else than its header describes.")
    return described, tensors


def _open(magic: bytes, value: bytes) -> tuple[bytes, memoryview]:
    """The header and the values, once the checksum says that both are as they were written."""
    if len(value) < PREFIX.size:
        raise CacheError("The stored value is too short.")
    found, header_bytes, checksum = PREFIX.unpack_from(value)
    if found != magic:
        raise CacheError("The stored value is of another kind or version.")
    body = memoryview(value)[PREFIX.size :]
    if zlib.crc32(body) != checksum:
        raise CacheError("The stored value is damaged: its checksum is wrong.")
    return bytes(body[:header_bytes]), body[header_bytes:]


@contextmanager
def _header_of_this_version() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise CacheError("The stored value's header is not of this version.") from fault
