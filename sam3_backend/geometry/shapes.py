"""Simple shapes of masks: boxes, ellipses, smoothed masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sam3_backend.geometry.outlines import parts
from sam3_backend.geometry.polygons import MAX_DROPPED_PARTS, without_smallest
from sam3_backend.masks import Mask

_ROUND_ENOUGH = 1.02
"""Below this ratio of axes the direction of an ellipse is noise, and it is given as upright."""


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse in a picture.

    Attributes:
        centre_xy_px: Its centre.
        radii_px: Its two radii; the first lies along the x axis before the rotation.
        rotation_deg: Clockwise, as seen on the screen, in [-45, 45].
    """

    centre_xy_px: tuple[float, float]
    radii_px: tuple[float, float]
    rotation_deg: float


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Tightest box around a mask without its specks: xyxy px at pixel edges; all zeros for an empty mask.

    Specks are the smallest parts that add up to at most 2 % of the area, as for polygons: one stray pixel would
    otherwise double a box.
    """
    kept = without_smallest(parts(mask), lambda part: part.area_px, MAX_DROPPED_PARTS * mask.area_px)
    if not kept:
        return 0, 0, 0, 0
    points = np.concatenate([part.outer for part in kept])
    (x1, y1), (x2, y2) = points.min(axis=0).astype(int).tolist(), points.max(axis=0).astype(int).tolist()
    return x1, y1, x2, y2


def ellipse(mask: Mask) -> Ellipse:
    """The ellipse with the mask's centre and second moments; exact where the mask is an ellipse.

    Raises:
        ValueError: The mask is empty.
    """
    if not mask.area_px:
        raise ValueError("an empty mask has no ellipse")
    moments = cv2.moments(mask.crop.view(np.uint8), binaryImage=True)
    (x, y), area = mask.origin_xy_px, moments["m00"]
    centre = (moments["m10"] / area + x + 0.5, moments["m01"] / area + y + 0.5)
    central = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]])
    # A pixel is a unit square, not a point: its own variance is 1/12 along each axis.
    covariance = central / area + np.eye(2) / 12
    (minor, major), directions = np.linalg.eigh(covariance)
    long_px, short_px = 2 * math.sqrt(major), 2 * math.sqrt(minor)
    if long_px < _ROUND_ENOUGH * short_px:
        mean_px = math.sqrt(long_px * short_px)
        return Ellipse(centre, (mean_px, mean_px), 0.0)
    angle_deg = (math.degrees(math.atan2(directions[1, 1], directions[0, 1])) + 90) % 180 - 90
    if abs(angle_deg) <= 45:
        return Ellipse(centre, (long_px, short_px), angle_deg)
    return Ellipse(centre, (short_px, long_px), angle_deg - math.copysign(90, angle_deg))


def smoothed(mask: Mask, radius_px: float) -> Mask:
    """A mask whose outline is rounded: notches and spikes narrower than about the radius go.

    A mask that would vanish altogether is returned as it is. The picture's border does not count as an outline.

    Args:
        mask: The object.
        radius_px: Standard deviation of the Gaussian that the mask is blurred with before it is cut at one half.
    """
    if radius_px <= 0 or not mask.area_px:
        return mask
    reach = math.ceil(3 * radius_px)
    (x, y), (h, w), (height, width) = mask.origin_xy_px, mask.crop.shape, mask.picture_hw
    x1, y1, x2, y2 = max(0, x - reach), max(0, y - reach), min(width, x + w + reach), min(height, y + h + reach)
    field = np.zeros((y2 - y1, x2 - x1), np.float32)
    field[y - y1 : y - y1 + h, x - x1 : x - x1 + w] = mask.crop
    blurred = cv2.GaussianBlur(field, (0, 0), radius_px, borderType=cv2.BORDER_REPLICATE)
    rounded = Mask(crop=blurred > 0.5, origin_xy_px=(x1, y1), picture_hw=mask.picture_hw)
    return rounded if rounded.area_px else mask
