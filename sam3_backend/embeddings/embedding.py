"""What the model knows of one picture, once and for all prompts.

An embedding is immutable and complete in itself: no request can reach another one through it. It does not know the
model that made it beyond the fingerprint in its key, nor torch: tensors are opaque here, with ``nbytes`` alone read.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class TensorLike(Protocol):
    """Anything with a size: a torch tensor, a numpy array."""

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""


@dataclass(frozen=True, slots=True)
class EmbeddingKey:
    """What an embedding depends on, and nothing else: never a URL.

    Attributes:
        content_hash: SHA-256 of the picture file's bytes and of how they are read, hex; see ``Picture.content_hash``.
        predictor_fingerprint: Checkpoint, preprocessing version and dtype, short hex; see ``Predictor.fingerprint``.
    """

    content_hash: str
    predictor_fingerprint: str

    def __str__(self) -> str:
        return f"{self.predictor_fingerprint}:{self.content_hash}"


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vision encoder's output for one picture.

    Attributes:
        key: What it was made from.
        picture_hw: (height, width) of the upright picture in pixels.
        tensors: Named tensors on the predictor's device; read-only mapping. Names and shapes are the predictor's.
    """

    key: EmbeddingKey
    picture_hw: tuple[int, int]
    tensors: Mapping[str, TensorLike]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.nbytes for tensor in self.tensors.values())
