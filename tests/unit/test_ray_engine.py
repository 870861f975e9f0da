from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_backend.bulk.ray_engine import HandedPictures, _read, _written
from sam3_backend.bulk.work import Done, Failed, FoundObject, Kept, Task
from sam3_backend.images import Picture, PictureLocation, Sighting

if TYPE_CHECKING:
    from sam3_backend.images import PictureFile

TASK = Task(3, {"image": "a.png"})


class Elsewhere:
    def look(self, location: PictureLocation) -> Sighting:
        return Sighting("from elsewhere")

    def fetch(self, location: PictureLocation) -> PictureFile:
        raise NotImplementedError


@pytest.mark.parametrize(
    "outcome",
    [
        Done(TASK, {"result": [1]}, (FoundObject("car", 0.5, 0.1),), 0.25),
        Done(TASK, {}, kept=Kept("a.jsonl", 70)),
        Failed(TASK, "image_unreachable", "Gone."),
    ],
)
def test_outcomes_survive_the_journey(outcome: Done | Failed):
    assert _read(json.loads(_written(outcome))) == outcome


def test_pictures_that_were_handed_over_are_not_fetched_until_they_are_taken_back():
    pictures = HandedPictures(Elsewhere())
    picture = Picture(np.zeros((2, 3, 3), dtype=np.uint8), "c0ffee")
    here, there = PictureLocation("http://a/1.png"), PictureLocation("http://a/2.png")
    pictures.hand(here, picture)
    assert pictures.look(here).content_hash == "c0ffee"
    assert pictures.fetch(here).decode() is picture
    assert pictures.look(there).content_hash == "from elsewhere"
    pictures.take_back()
    assert pictures.look(here).content_hash == "from elsewhere"
