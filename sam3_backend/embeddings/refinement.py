"""What a further click goes on from: the mask logits that answered the prompt before it.

Like an embedding a refinement is immutable and follows from its key alone. It knows neither the model that decoded it,
beyond the fingerprint in its key, nor where it is kept.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam3_backend.embeddings.embedding import EmbeddingKey
    from sam3_backend.prompts import Box, Point, PromptSet

MaskLogits: TypeAlias = "npt.NDArray[np.float32]"


@dataclass(frozen=True, slots=True)
class RefinementKey:
    """What mask logits depend on, and nothing else: never a person, a task or a label.

    Attributes:
        picture: Key of the picture's embedding.
        points: In the order they were placed.
        box: The box around the object, if there is one.
        multimask: As the predictor was asked for; None for the official rule.
    """

    picture: EmbeddingKey
    points: tuple[Point, ...]
    box: Box | None
    multimask: bool | None

    @classmethod
    def of(cls, picture: EmbeddingKey, prompt_set: PromptSet, multimask: bool | None) -> RefinementKey:
        """The key of what answers points and a box about a picture."""
        return cls(picture, prompt_set.points, prompt_set.box, multimask)

    def __str__(self) -> str:
        asked = json.dumps(  # writes every number so that it is read as the same one
            [[astuple(each) for each in self.points], astuple(self.box) if self.box else None, self.multimask]
        )
        return f"{self.picture}:{hashlib.sha256(asked.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Refinement:
    """Mask logits, and what they answer.

    Attributes:
        key: What they were decoded from.
        mask_logits: (s, s) float32, read-only; see ``Segmentation.mask_logits``.
    """

    key: RefinementKey
    mask_logits: MaskLogits

    @property
    def nbytes(self) -> int:
        """Bytes of the logits."""
        return self.mask_logits.nbytes
