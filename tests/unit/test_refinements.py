"""What a further click goes on from: what its key says, and what the process remembers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sam3_backend.embeddings.embedding import EmbeddingKey
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.refinement import MaskLogits, RefinementKey
from sam3_backend.embeddings.refinement_store import RefinementStore
from sam3_backend.prompts import Box, Point, PromptSet

PICTURE = EmbeddingKey("picture", "model")
HERE, THERE = Point(0.1, 0.2), Point(0.3, 0.4)
CLICKED = PromptSet(points=(HERE, THERE))
LOGITS = np.ones((2, 5), dtype=np.float32)
AGAIN = LOGITS + 1


def decoded_again() -> MaskLogits:
    return AGAIN


def test_the_key_is_that_of_picture_prompts_and_how_they_were_asked_and_not_of_a_label() -> None:
    key = RefinementKey.of(PICTURE, CLICKED, None)
    same = RefinementKey.of(EmbeddingKey("picture", "model"), replace(CLICKED, label="dog"), None)
    box = Box(0.1, 0.1, 0.5, 0.5)
    others = [
        RefinementKey.of(EmbeddingKey("another", "model"), CLICKED, None),
        RefinementKey.of(EmbeddingKey("picture", "another"), CLICKED, None),
        RefinementKey.of(PICTURE, PromptSet(points=(THERE, HERE)), None),
        RefinementKey.of(PICTURE, PromptSet(points=(HERE,)), None),
        RefinementKey.of(PICTURE, PromptSet(points=(HERE, replace(THERE, is_positive=False))), None),
        RefinementKey.of(PICTURE, PromptSet(points=(HERE, replace(THERE, x=np.nextafter(0.3, 1)))), None),
        RefinementKey.of(PICTURE, replace(CLICKED, box=box), None),
        RefinementKey.of(PICTURE, replace(CLICKED, box=replace(box, rotation_deg=1e-9)), None),
        RefinementKey.of(PICTURE, CLICKED, multimask=True),
        RefinementKey.of(PICTURE, CLICKED, multimask=False),
    ]
    assert (key, str(key)) == (same, str(same))
    assert len({key, *others}) == len({str(each) for each in (key, *others)}) == 1 + len(others)


def test_the_oldest_mask_is_forgotten_where_memory_is_full() -> None:
    store = RefinementStore(MemoryTier(2 * LOGITS.nbytes))
    sets = [PromptSet(points=(Point(x / 10, 0.5),)) for x in range(3)]
    for each in sets:
        store.put(PICTURE, each, LOGITS, None)
    assert [store.get_or_make(PICTURE, each, None, decoded_again) is AGAIN for each in sets] == [True, False, False]


def test_what_is_remembered_stays_as_it_was_whatever_becomes_of_the_answer() -> None:
    store, answer = RefinementStore(), np.stack([LOGITS] * 3)
    store.put(PICTURE, CLICKED, answer[0], None)
    answer[:] = 0
    found = store.get_or_make(PICTURE, CLICKED, None, decoded_again)
    np.testing.assert_array_equal(found, LOGITS)
    assert not found.flags.writeable
