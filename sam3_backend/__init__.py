"""Label Studio ML backend around SAM 3: text, keypoints and rectangles in, masks out."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam3_backend.model.predictor import Predictor

try:
    __version__ = version("sam3-backend")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; only those who ask for the predictor pay for it.
    if name == "Predictor":
        from sam3_backend.model.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
