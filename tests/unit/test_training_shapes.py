"""The picture generator: same seed, same picture; masks that fit what is drawn."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from training.backgrounds import HELD_OUT_BACKGROUNDS, TRAINING_BACKGROUNDS
from training.concepts import exemplar_concept, members, text_concept
from training.outlines import Pose, signed_distance
from training.shapes import Settings, draw, draw_plain
from training.vocabulary import COLOUR_RANGES, COLOURS, PLURALS, SHAPES
from training.words import FOREIGN_WORDS, foreign_phrase, known_words, phrase


def test_same_seed_draws_the_same_picture() -> None:
    first, second = draw(7), draw(7)
    assert np.array_equal(first.image, second.image)
    assert [(i.shape, i.colour, i.box) for i in first.instances] == [
        (i.shape, i.colour, i.box) for i in second.instances
    ]


def test_other_seeds_draw_other_pictures() -> None:
    assert draw(7, raster_px=96).image.tobytes() != draw(8, raster_px=96).image.tobytes()


@pytest.mark.parametrize("seed", range(12))
def test_masks_are_disjoint_and_boxes_are_tight(seed: int) -> None:
    scene = draw(seed, Settings(overlap_share=1.0))
    assert np.sum([i.mask for i in scene.instances], 0).max() <= 1
    for instance in scene.instances:
        x1, y1, x2, y2 = (int(edge) for edge in instance.box)
        assert instance.mask.shape == scene.image.shape[:2]
        assert instance.mask[y1:y2, x1:x2].sum() == instance.mask.sum()
        for edge in (instance.mask[y1, :], instance.mask[y2 - 1, :], instance.mask[:, x1], instance.mask[:, x2 - 1]):
            assert edge.any()


@pytest.mark.parametrize("colour", COLOURS)
def test_pixels_of_a_mask_have_the_colour_of_its_name(colour: str) -> None:
    scene = draw_plain([("circle", colour, (100, 100), 60)], (200, 200))
    middle = scene.image[100, 100] / 255
    value = middle.max()
    saturation = (value - middle.min()) / value
    expected = COLOUR_RANGES[colour]
    assert expected.value[0] - 0.01 <= value <= expected.value[1] + 0.01
    assert expected.saturation[0] - 0.03 <= saturation <= expected.saturation[1] + 0.03


@pytest.mark.parametrize(
    ("shape", "area"),
    [("circle", np.pi), ("square", 1.78**2), ("triangle", 1.25**2 * 3 * 3**0.5 / 4), ("ring", np.pi * 0.75)],
)
def test_an_outline_has_the_area_of_its_formula(shape: str, area: float) -> None:
    grid = np.arange(400, dtype=np.float32) + 0.5
    distance = signed_distance(shape, Pose((200, 200), 100, line=0.5), grid, grid)
    assert np.isclose((distance > 0).sum(), area * 100**2, rtol=0.01)


def test_squashed_drawing_equals_a_squashed_picture() -> None:
    settings = Settings(area_px=(400 * 400, 400 * 400), aspect=(1.6, 1.6), plain_share=1.0)
    full, squashed = draw(3, settings), draw(3, settings, raster_px=200)
    height, width = full.image.shape[:2]
    for large, small in zip(full.instances, squashed.instances, strict=True):
        scaled = np.array(large.box) * (200 / width, 200 / height, 200 / width, 200 / height)
        assert (large.shape, large.colour) == (small.shape, small.colour)
        assert np.allclose(scaled, small.box, atol=1.5)


def test_no_held_out_background_is_trained_on() -> None:
    assert not set(HELD_OUT_BACKGROUNDS) & set(TRAINING_BACKGROUNDS)


def test_members_fit_the_concept() -> None:
    attributes = [("circle", "red"), ("circle", "blue"), ("star", "red"), ("circle", "red")]
    assert members(attributes, "circle", "red") == (0, 3)
    assert members(attributes, None, "red") == (0, 2, 3)
    assert members(attributes, "ring", None) == ()


def test_a_text_concept_finds_what_its_words_say() -> None:
    attributes = [("circle", "red"), ("cross", "blue"), ("star", "red")]
    singular = {plural: shape for shape, plural in PLURALS.items()}
    rng = random.Random(0)  # noqa: S311
    for _ in range(200):
        concept = text_concept(rng, attributes)
        said = re.sub(r"^(the|a|an|all) ", "", concept.text).split()
        nouns = [singular.get(word, word) for word in said]
        if len(nouns) == 2 and nouns[0] in COLOURS and nouns[1] in SHAPES:
            assert concept.targets == members(attributes, nouns[1], nouns[0])


def test_an_exemplar_alone_finds_its_own_kind() -> None:
    attributes = [("circle", "red"), ("circle", "red"), ("star", "red")]
    boxes = [(0.1, 0.1, 0.2, 0.2), (0.5, 0.5, 0.7, 0.7), (0.8, 0.1, 0.9, 0.2)]
    rng = random.Random(1)  # noqa: S311
    alone = [c for c in (exemplar_concept(rng, attributes, boxes) for _ in range(200)) if c.text == "visual"]
    assert {c.targets for c in alone} == {(0, 1), (2,)}


def test_foreign_phrases_hold_no_known_shape() -> None:
    rng = random.Random(0)  # noqa: S311
    nouns = {*SHAPES, *PLURALS.values(), "shape", "object"}
    assert not any(nouns & set(foreign_phrase(rng).split()) for _ in range(500))


def test_no_word_is_known_and_foreign() -> None:
    assert not set(known_words()) & set(FOREIGN_WORDS)


def test_a_phrase_names_its_colour() -> None:
    rng = random.Random(0)  # noqa: S311
    assert all("cyan" in phrase(rng, "cyan", shape) for shape in (*SHAPES, None) for _ in range(20))
