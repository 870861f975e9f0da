"""What the annotator who asks has accepted already, read from the task's drafts.

Regions of every kind, whoever wrote them: what cannot be read is passed over. A shape is compared with what a new
object would become as the same kind of shape, a rectangle with a rectangle.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam3_backend.geometry import bounding_box, ellipse, rasterize
from sam3_backend.label_studio import rle
from sam3_backend.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sam3_backend.masks import ScoredMask

    Value = Mapping[str, Any]

logger = logging.getLogger(__name__)

SAME_OBJECT_IOU = 0.9
"""An object that overlaps an accepted one this much is that object."""

_PNG = b"\x89PNG\r\n\x1a\n"

MOST_REGIONS = 300
"""Of more than these the newest are looked at: decoding a mask takes milliseconds."""


class Accepted:
    """Regions an annotator has accepted. Reads them when it is first asked; for one request.

    Args:
        regions: As Label Studio keeps them.
    """

    def __init__(self, regions: Sequence[Mapping[str, Any]] = ()) -> None:
        self._regions = [region for region in regions if str(region.get("type")) in _READERS][-MOST_REGIONS:]
        self._shapes: list[tuple[str, Mask]] | None = None

    def __len__(self) -> int:
        return len(self._regions)

    def has(self, found: ScoredMask) -> bool:
        """Whether an object is among them."""
        if self._shapes is None:
            self._shapes = [
                (str(region["type"]), mask)
                for region in self._regions
                if (mask := _read(region, found.mask.picture_hw)) is not None
            ]
        as_kind: dict[str, Mask] = {}
        for kind, shape in self._shapes:
            name = kind.removesuffix("labels")
            if name not in as_kind:
                as_kind[name] = _as_shape(found.mask, name)
            if as_kind[name].iou(shape) >= SAME_OBJECT_IOU:
                return True
        return False


def accepted_by_asker(task: Mapping[str, Any], prompt_ids: Collection[str]) -> Accepted:
    """What the annotator who places these prompts has accepted.

    Label Studio does not say who asks, and sends everybody's drafts. Work that holds one of the prompts is the
    asker's; else the drafts are, if they are all one person's. Others' finished annotations never count: a second
    annotator is to see everything.

    Args:
        task: As Label Studio sends it.
        prompt_ids: Ids of the prompts' regions.
    """
    drafts, annotations = (_dicts(task.get(field)) for field in ("drafts", "annotations"))
    for work in reversed([*annotations, *drafts]):
        regions = _dicts(work.get("result"))
        if any(str(region.get("id")) in prompt_ids for region in regions):
            return Accepted(regions)
    if len({str(draft.get("user")) for draft in drafts}) == 1:
        return Accepted([region for draft in drafts for region in _dicts(draft.get("result"))])
    return Accepted()


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _read(region: Mapping[str, Any], picture_hw: tuple[int, int]) -> Mask | None:
    value = region.get("value")
    try:
        return _READERS[str(region["type"])](value, picture_hw) if isinstance(value, dict) else None
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError, cv2.error) as fault:
        logger.debug("A region of type %s cannot be read: %s", region["type"], fault)
        return None


def _as_shape(mask: Mask, shape: str) -> Mask:
    if shape == "rectangle":
        x1, y1, x2, y2 = bounding_box(mask)
        return rasterize([np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], float)], mask.picture_hw)
    if shape == "ellipse" and mask.area_px:
        drawn = ellipse(mask)
        return _ellipse(drawn.centre_xy_px, drawn.radii_px, drawn.rotation_deg, mask.picture_hw)
    return mask


def _ellipse(
    centre_px: tuple[float, float], radii_px: tuple[float, float], rotation_deg: float, picture_hw: tuple[int, int]
) -> Mask:
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    points = np.stack([radii_px[0] * np.cos(turn), radii_px[1] * np.sin(turn)], axis=1)
    return rasterize([points @ _turned(rotation_deg) + centre_px], picture_hw)


def _turned(degrees: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(2, 2) matrix that turns rows of XY clockwise, as seen on the screen."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, sine], [-sine, cosine]])


def _read_rle(value: Value, picture_hw: tuple[int, int]) -> Mask:
    return Mask.from_array(rle.decode(value["rle"], picture_hw[1], picture_hw[0]))


def _read_bitmask(value: Value, picture_hw: tuple[int, int]) -> Mask:
    return _from_png(str(value["imageDataURL"]), picture_hw)


@lru_cache(maxsize=256)
def _from_png(url: str, picture_hw: tuple[int, int]) -> Mask:
    """Remembered, because every prompt brings the whole draft again and a large picture takes a tenth of a second."""
    try:
        encoded = base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error as fault:
        raise ValueError("not base64") from fault
    # The header is checked first: a small file may unpack to gigabytes.
    is_png, width_px, height_px = encoded[:8] == _PNG, encoded[16:20], encoded[20:24]
    if not is_png or (int.from_bytes(height_px, "big"), int.from_bytes(width_px, "big")) != picture_hw:
        raise ValueError("not a PNG of the picture's size")
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape != (*picture_hw, 4):
        raise ValueError("not a PNG with transparency")
    return Mask.from_array(pixels[..., 3] > 0)


def _read_points(value: Value, picture_hw: tuple[int, int]) -> Mask:
    points = [(each["x"], each["y"]) for each in value["vertices"]] if "vertices" in value else value["points"]
    return rasterize([np.array(points, float).reshape(-1, 2) * _px_per_pct(picture_hw)], picture_hw)


def _read_rectangle(value: Value, picture_hw: tuple[int, int]) -> Mask:
    scale = _px_per_pct(picture_hw)
    width, height = np.array([value["width"], value["height"]], float) * scale
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    placed = corners @ _turned(float(value.get("rotation") or 0)) + np.array([value["x"], value["y"]], float) * scale
    return rasterize([placed], picture_hw)


def _read_ellipse(value: Value, picture_hw: tuple[int, int]) -> Mask:
    scale = _px_per_pct(picture_hw)
    (x, y), (a, b) = (np.array([value[i], value[j]], float) * scale for i, j in (("x", "y"), ("radiusX", "radiusY")))
    return _ellipse((x, y), (a, b), float(value.get("rotation") or 0), picture_hw)


def _px_per_pct(picture_hw: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([picture_hw[1], picture_hw[0]]) / 100


_READERS: dict[str, Callable[[Value, tuple[int, int]], Mask]] = {
    f"{shape}{labels}": reader
    for shape, reader in {
        "brush": _read_rle,
        "bitmask": _read_bitmask,
        "polygon": _read_points,
        "vector": _read_points,
        "rectangle": _read_rectangle,
        "ellipse": _read_ellipse,
    }.items()
    for labels in ("", "labels")
}
