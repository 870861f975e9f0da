"""Requests that a real Label Studio 1.23.2 was seen to send, and what stands in its predictions.

The files in ``payloads`` hold ``method``, ``path``, ``body`` and the ``answer`` of the stand-in that was there; tokens
are redacted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_backend.label_studio import rle

if TYPE_CHECKING:
    import numpy as np

PAYLOADS = Path(__file__).parent / "payloads"


def recorded(name: str) -> dict[str, Any]:
    """A recorded request and the answer of the stand-in that was there: ``method``, ``path``, ``body``, ``answer``."""
    return dict(json.loads((PAYLOADS / f"{name}.json").read_text()))


def masks_in(prediction: dict[str, Any]) -> list[tuple[str | None, np.ndarray]]:
    """Label and mask of each brush region of a prediction."""
    found = []
    for region in prediction["result"]:
        labels = region["value"]["brushlabels"]
        mask = rle.decode(region["value"]["rle"], region["original_width"], region["original_height"])
        found.append((labels[0] if labels else None, mask))
    return found
