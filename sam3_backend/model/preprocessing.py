"""A picture as the network reads it.

The aspect is not kept: the picture is squeezed into the network's square, as in Meta's code. Does not know how a
picture is decoded.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn.functional import interpolate

from sam3_backend.errors import InvalidPrompt

if TYPE_CHECKING:
    import numpy.typing as npt

PREPROCESSING_VERSION = 1
"""Raised whenever the same picture would give other pixels than before: old embeddings must not be found then."""


def as_rgb(image: npt.NDArray[np.uint8] | Image.Image) -> npt.NDArray[np.uint8]:
    """An upright picture.

    Args:
        image: (H, W, 3) uint8 RGB, upright; or a Pillow image, whose EXIF orientation is applied.

    Raises:
        InvalidPrompt: It is neither, or has no pixels.
    """
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InvalidPrompt("A picture is an (H, W, 3) uint8 RGB array or a Pillow image.")
    if 0 in image.shape:
        raise InvalidPrompt("The picture has no pixels.")
    return image


def hash_of(rgb: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of a picture's size and pixels, hex."""
    digest = hashlib.sha256(f"{rgb.shape[1]}x{rgb.shape[0]} ".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def to_network_input(rgb: npt.NDArray[np.uint8], input_size_px: int, device: torch.device) -> torch.Tensor:
    """Resize and normalise.

    Bilinear with antialiasing on the 8-bit values, as torchvision's resize that Meta uses; Pillow's filter differs by a
    grey level here and there.

    Args:
        rgb: (H, W, 3) uint8 RGB [0, 255], upright.
        input_size_px: Side S of the network's square.
        device: Where the result goes.

    Returns:
        (1, 3, S, S) float32 in [-1, 1].
    """
    # torch refuses to look at read-only memory without a warning, and pictures are read-only here.
    pixels = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy())
    side = (input_size_px, input_size_px)
    resized = interpolate(pixels.permute(2, 0, 1)[None], size=side, mode="bilinear", antialias=True)
    return (resized.to(device, torch.float32) / 255 - 0.5) / 0.5
