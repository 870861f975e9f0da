"""A mask as each kind of control keeps it: the part of a region's value that says where the object is.

Percentages of the picture, measured at pixel edges, as the labelling page draws them. Knows no labels and no regions.
"""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any

from sam3_backend.geometry import bounding_box, ellipse, png_rgba, polygons, smoothed
from sam3_backend.label_studio.rle import encode_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.label_studio.controls import Output
    from sam3_backend.masks import Mask

Value = dict[str, Any]


def shape_values(mask: Mask, output: Output) -> list[Value]:
    """What stands for a mask in a control.

    Args:
        mask: An object that is not empty.
        output: The control.

    Returns:
        One value; for polygons and vectors, whose rings cannot hold two parts, one for each part that counts.
    """
    return _WRITERS[output.kind.removesuffix("labels")](smoothed(mask, output.smooth_px), output)


def _brush(mask: Mask, _output: Output) -> list[Value]:
    return [{"format": "rle", "rle": encode_mask(mask)}]


def _bitmask(mask: Mask, _output: Output) -> list[Value]:
    return [{"imageDataURL": "data:image/png;base64," + base64.b64encode(png_rgba(mask)).decode()}]


def _polygon(mask: Mask, output: Output) -> list[Value]:
    return [{"points": ring, "closed": True} for ring in _rings_pct(mask, output)]


def _vector(mask: Mask, output: Output) -> list[Value]:
    return [{"vertices": _vertices(ring), "closed": True} for ring in _rings_pct(mask, output)]


def _rectangle(mask: Mask, _output: Output) -> list[Value]:
    x1, y1, x2, y2 = bounding_box(mask)
    height, width = mask.picture_hw
    return [
        {
            "x": 100 * x1 / width,
            "y": 100 * y1 / height,
            "width": 100 * (x2 - x1) / width,
            "height": 100 * (y2 - y1) / height,
            "rotation": 0,
        }
    ]


def _ellipse(mask: Mask, _output: Output) -> list[Value]:
    drawn = ellipse(mask)
    height, width = mask.picture_hw
    return [
        {
            "x": 100 * drawn.centre_xy_px[0] / width,
            "y": 100 * drawn.centre_xy_px[1] / height,
            # The page takes each radius along its own side of the picture, then turns the ellipse in pixels.
            "radiusX": 100 * drawn.radii_px[0] / width,
            "radiusY": 100 * drawn.radii_px[1] / height,
            "rotation": drawn.rotation_deg % 360,
        }
    ]


def _rings_pct(mask: Mask, output: Output) -> list[list[list[float]]]:
    height, width = mask.picture_hw
    found = polygons(mask, tolerance_px=output.tolerance_px)
    return [(each.points * (100 / width, 100 / height)).tolist() for each in found]


def _vertices(ring: list[list[float]]) -> list[Value]:
    """Points of a closed path, each naming the one before it."""
    ids = [uuid.uuid4().hex[:8] for _ in ring]
    return [
        {"id": own, "x": x, "y": y, "prevPointId": before, "isBezier": False, "disconnected": False}
        for own, before, (x, y) in zip(ids, [None, *ids], ring, strict=False)
    ]


_WRITERS: dict[str, Callable[[Mask, Output], list[Value]]] = {
    "brush": _brush,
    "bitmask": _bitmask,
    "polygon": _polygon,
    "vector": _vector,
    "rectangle": _rectangle,
    "ellipse": _ellipse,
}
