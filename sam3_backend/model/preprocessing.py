"""A picture as the network reads it.

The aspect is not kept: the picture is squeezed into the network's square, as in Meta's code. Does not know how a
picture is decoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """A picture squeezed into the network's square, ready for the device.

    Attributes:
        pixels: (1, 3, S, S) uint8 RGB on the CPU.
        picture_hw: (height, width) of the picture in pixels.
        content_hash: SHA-256 of what the picture is made of, hex.
    """

    pixels: torch.Tensor
    picture_hw: tuple[int, int]
    content_hash: str


def prepared(
    image: npt.NDArray[np.uint8] | Image.Image, input_size_px: int, content_hash: str | None
) -> PreparedPicture:
    """Everything that needs no device.

    Args:
        image: As for ``as_rgb``.
        input_size_px: Side S of the network's square.
        content_hash: Of the picture, hex; of size and pixels where it is None.

    Raises:
        InvalidPrompt: As ``as_rgb``.
    """
    rgb = as_rgb(image)
    return PreparedPicture(squeezed(rgb, input_size_px), (rgb.shape[0], rgb.shape[1]), content_hash or hash_of(rgb))


def squeezed(rgb: npt.NDArray[np.uint8], input_size_px: int) -> torch.Tensor:
    """Resize to the network's square.

    Bilinear with antialiasing on the 8-bit values, as torchvision's resize that Meta uses; Pillow's filter differs by a
    grey level here and there.

    Args:
        rgb: (H, W, 3) uint8 RGB [0, 255], upright.
        input_size_px: Side S of the square.

    Returns:
        (1, 3, S, S) uint8.
    """
    # torch refuses to look at read-only memory without a warning, and pictures are read-only here.
    pixels = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy())
    side = (input_size_px, input_size_px)
    return interpolate(pixels.permute(2, 0, 1)[None], size=side, mode="bilinear", antialias=True)


def normalised(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(1, 3, S, S) uint8 to float32 in [-1, 1] on the device."""
    return (pixels.to(device).float() / 255 - 0.5) / 0.5
