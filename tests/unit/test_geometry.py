"""Shapes of masks, held against the pixels they stand for."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from sam3_backend.geometry import bounding_box, ellipse, png_rgba, polygons, rasterize, smoothed
from sam3_backend.geometry.outlines import parts, ring_area
from sam3_backend.masks import Mask

PICTURE_HW = (120, 160)


def mask_of(*boxes: tuple[int, int, int, int], hw: tuple[int, int] = PICTURE_HW) -> Mask:
    """A mask of rectangles (x1, y1, x2, y2)."""
    array = np.zeros(hw, np.bool_)
    for x1, y1, x2, y2 in boxes:
        array[y1:y2, x1:x2] = True
    return Mask.from_array(array)


def disc(x: float, y: float, radius: float, hw: tuple[int, int] = PICTURE_HW) -> np.ndarray:
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2


def noise(seed: int, density: float, hw: tuple[int, int] = PICTURE_HW) -> np.ndarray:
    return np.random.default_rng(seed).random(hw) < density


def blobs(seed: int, hw: tuple[int, int] = PICTURE_HW) -> np.ndarray:
    """Smooth random shapes with several parts, holes, and parts that touch the border."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(hw), (0, 0), 4 + seed % 5)
    return field > np.quantile(field, 0.3 + 0.06 * (seed % 10))


def diagonal(hw: tuple[int, int] = PICTURE_HW) -> np.ndarray:
    return np.eye(*hw, dtype=np.bool_)


def frame(hw: tuple[int, int] = PICTURE_HW) -> np.ndarray:
    array = np.ones(hw, np.bool_)
    array[1:-1, 1:-1] = False
    return array


HARD_MASKS = {
    "one pixel": mask_of((7, 9, 8, 10)),
    "one pixel in a corner": mask_of((159, 119, 160, 120)),
    "three pixels apart": mask_of((0, 0, 1, 1), (50, 50, 51, 51), (100, 100, 101, 101)),
    "horizontal hair": mask_of((3, 60, 157, 61)),
    "vertical hair on the border": mask_of((0, 0, 1, 120)),
    "diagonal hair": Mask.from_array(diagonal()),
    "anti-diagonal hair": Mask.from_array(diagonal()[:, ::-1].copy()),
    "checkerboard": Mask.from_array(np.indices((9, 9)).sum(axis=0) % 2 == 0),
    "whole picture": Mask.from_array(np.ones(PICTURE_HW, np.bool_)),
    "frame of one pixel": Mask.from_array(frame()),
    "disc": Mask.from_array(disc(80, 60, 40)),
    "disc over the border": Mask.from_array(disc(0, 0, 40)),
    "ring": Mask.from_array(disc(80, 60, 40) & ~disc(80, 60, 25)),
    "thin ring": Mask.from_array(disc(80, 60, 40) & ~disc(80, 60, 38)),
    "disc in a ring": Mask.from_array(disc(80, 60, 40) & ~disc(80, 60, 25) | disc(80, 60, 10)),
    "many holes": Mask.from_array(disc(80, 60, 50) & ~noise(1, 0.05)),
    "noise": Mask.from_array(noise(2, 0.5, hw=(40, 50))),
    "sparse noise": Mask.from_array(noise(3, 0.02)),
    "rectangle with specks": mask_of((20, 20, 120, 100), (150, 5, 151, 6), (3, 110, 5, 112)),
    "gap of one pixel": mask_of((20, 20, 40, 40), (41, 20, 60, 40)),
    **{f"blobs {seed}": Mask.from_array(blobs(seed)) for seed in range(40)},
}


@pytest.mark.parametrize("mask", HARD_MASKS.values(), ids=HARD_MASKS.keys())
def test_outlines_reproduce_every_pixel(mask: Mask) -> None:
    found = parts(mask)

    rings = [ring for part in found for ring in (part.outer, *part.holes)]
    assert np.array_equal(rasterize(rings, mask.picture_hw).to_array(), mask.to_array())
    assert sum(part.area_px for part in found) == mask.area_px


@pytest.mark.parametrize("mask", HARD_MASKS.values(), ids=HARD_MASKS.keys())
def test_polygons_are_the_object(mask: Mask) -> None:
    together = np.zeros(mask.picture_hw, np.bool_)
    for polygon in polygons(mask):
        assert len(polygon.points) >= 3
        assert (polygon.points >= 0).all()
        assert (polygon.points <= (mask.picture_hw[1], mask.picture_hw[0])).all()
        together |= rasterize([polygon.points], mask.picture_hw).to_array()

    assert Mask.from_array(together).iou(mask) >= 0.95


def test_a_square_has_its_area_and_four_points() -> None:
    (square,) = polygons(mask_of((30, 40, 40, 50)))

    assert sorted(map(tuple, square.points.tolist())) == [(30, 40), (30, 50), (40, 40), (40, 50)]
    assert ring_area(square.points) == 100


def test_a_mask_on_the_border_reaches_the_border() -> None:
    (polygon,) = polygons(Mask.from_array(np.ones(PICTURE_HW, np.bool_)))

    assert polygon.points.min(axis=0).tolist() == [0, 0]
    assert polygon.points.max(axis=0).tolist() == [160, 120]


def test_simplified_polygons_have_few_points() -> None:
    (polygon,) = polygons(Mask.from_array(disc(80, 60, 40)))

    assert len(polygon.points) < 30


def test_a_larger_tolerance_gives_fewer_points() -> None:
    mask = Mask.from_array(disc(400, 300, 250, hw=(600, 800)))

    coarse, fine = (len(polygons(mask, tolerance_px=tolerance)[0].points) for tolerance in (4, 0.5))
    assert coarse < fine / 2


def test_a_tolerance_larger_than_the_object_does_not_destroy_it() -> None:
    (polygon,) = polygons(mask_of((30, 40, 34, 44)), tolerance_px=50)

    assert ring_area(polygon.points) == 16


def test_parts_become_polygons_of_their_own_largest_first() -> None:
    found = polygons(mask_of((10, 10, 20, 20), (50, 50, 80, 80)))

    assert [ring_area(each.points) for each in found] == [900, 100]


def test_parts_that_touch_at_a_corner_are_one() -> None:
    assert len(parts(mask_of((10, 10, 20, 20), (20, 20, 30, 30)))) == 1


def test_parts_beside_a_gap_of_one_pixel_stay_two() -> None:
    assert len(polygons(mask_of((20, 20, 40, 40), (41, 20, 60, 40)))) == 2


def test_specks_are_dropped() -> None:
    assert len(polygons(mask_of((20, 20, 120, 100), (150, 5, 151, 6)))) == 1


def test_small_holes_are_filled_and_large_ones_cut_in() -> None:
    array = mask_of((20, 20, 120, 100)).to_array()
    array[30:35, 30:35] = False
    (filled,) = polygons(Mask.from_array(array))
    array[50:80, 50:80] = False
    (cut,) = polygons(Mask.from_array(array))

    assert ring_area(filled.points) == 8000
    assert ring_area(cut.points) == 8000 - 900


def test_a_hole_turns_the_other_way_so_that_both_filling_rules_leave_it_open() -> None:
    (polygon,) = polygons(Mask.from_array(disc(80, 60, 40) & ~disc(80, 60, 25)))

    inside_hole, inside_ring = (80.25, 60.25), (80.25, 60.25 + 32)
    assert winding(polygon.points, inside_hole) == 0
    assert winding(polygon.points, inside_ring) != 0


def winding(ring: np.ndarray, point: tuple[float, float]) -> int:
    steps = np.diff(np.unwrap(np.arctan2(*(np.vstack([ring, ring[:1]]) - point).T[::-1])))
    return round(float(steps.sum()) / (2 * np.pi))


def test_an_empty_mask_has_no_polygons_and_no_box() -> None:
    empty = Mask.from_array(np.zeros(PICTURE_HW, np.bool_))

    assert polygons(empty) == []
    assert bounding_box(empty) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="empty"):
        ellipse(empty)


def test_rasterizing_takes_pixels_by_their_centres() -> None:
    covered = rasterize([np.array([(10.4, 10.4), (20.6, 10.4), (20.6, 20.4), (10.4, 20.4)])], PICTURE_HW)

    assert covered.box_xyxy_px == (10, 10, 21, 20)


def test_rasterizing_cuts_at_the_picture() -> None:
    around = np.array([(-50.0, -50.0), (500.0, -50.0), (500.0, 500.0), (-50.0, 500.0)])

    assert rasterize([around], PICTURE_HW).area_px == 120 * 160
    assert rasterize([around + 1000], PICTURE_HW).area_px == 0
    assert rasterize([around - 1000], PICTURE_HW).area_px == 0
    assert rasterize([], PICTURE_HW).area_px == 0


def test_a_box_ends_behind_the_last_pixel() -> None:
    assert bounding_box(mask_of((30, 40, 40, 50))) == (30, 40, 40, 50)


def test_a_stray_pixel_does_not_stretch_a_box() -> None:
    assert bounding_box(mask_of((30, 40, 60, 70), (150, 100, 151, 101))) == (30, 40, 60, 70)


@pytest.mark.parametrize("degrees", [0, 10, 40, -30, 44])
@pytest.mark.parametrize(("long_px", "short_px"), [(40, 15), (15, 40)])
def test_a_drawn_ellipse_is_found_again(degrees: float, long_px: float, short_px: float) -> None:
    rows, columns = np.mgrid[:120, :160]
    x, y = columns + 0.5 - 81.3, rows + 0.5 - 58.8
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    found = ellipse(Mask.from_array((along / long_px) ** 2 + (across / short_px) ** 2 < 1))

    assert found.centre_xy_px == pytest.approx((81.3, 58.8), abs=0.1)
    assert found.radii_px == pytest.approx((long_px, short_px), abs=0.2)
    assert found.rotation_deg == pytest.approx(degrees, abs=0.5)


def test_a_disc_is_an_upright_ellipse() -> None:
    found = ellipse(Mask.from_array(disc(80, 60, 30)))

    assert found.rotation_deg == 0
    assert found.radii_px == pytest.approx((30, 30), abs=0.1)


def test_one_pixel_has_an_ellipse_of_about_its_area() -> None:
    a, b = ellipse(mask_of((7, 9, 8, 10))).radii_px

    assert np.pi * a * b == pytest.approx(1, abs=0.1)


def test_smoothing_takes_spikes_and_fills_notches() -> None:
    array = mask_of((30, 30, 90, 90)).to_array()
    array[10:30, 60] = True
    array[30:50, 45] = False

    rounded = smoothed(Mask.from_array(array), 2).to_array()
    assert not rounded[10:26, 60].any()
    assert rounded[34:50, 45].all()


def test_smoothing_keeps_a_border_of_the_picture() -> None:
    whole = Mask.from_array(np.ones(PICTURE_HW, np.bool_))

    assert smoothed(whole, 5).area_px == whole.area_px


def test_smoothing_never_loses_an_object() -> None:
    hair = mask_of((3, 60, 157, 61))

    assert smoothed(hair, 3) == hair
    assert smoothed(hair, 0) is hair


@pytest.mark.parametrize("mask", HARD_MASKS.values(), ids=HARD_MASKS.keys())
def test_a_picture_of_a_mask_is_white_where_the_object_is_and_transparent_elsewhere(mask: Mask) -> None:
    drawn = png_rgba(mask)
    expected = np.repeat(mask.to_array()[..., None] * np.uint8(255), 4, axis=2)

    assert np.array_equal(cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_UNCHANGED), expected)
    with Image.open(io.BytesIO(drawn)) as read:
        read.load()  # checks every checksum
        assert (read.format, read.mode) == ("PNG", "RGBA")
        assert np.array_equal(np.array(read), expected)


def test_a_picture_of_an_empty_mask_is_transparent() -> None:
    empty = Mask(crop=np.zeros((0, 0), np.bool_), origin_xy_px=(0, 0), picture_hw=(70_000, 3))

    with Image.open(io.BytesIO(png_rgba(empty))) as read:
        assert read.size == (3, 70_000)
        assert not np.array(read).any()
