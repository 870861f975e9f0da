"""The same work on many processes and machines, by Ray Data: pictures on any core, one model per GPU.

Two steps stream through Ray: fetching and decoding, as tasks on any machine; and predicting, by actors that hold a
model each. Ray keeps the steps in balance, starts lost actors anew and gives them their work again. Listing and journal
stay with the process that was started. Where predictions go into files, each actor keeps its own in a shard of its own,
and that process hears only where; where they go into Label Studio, it sends them, so that each is there once.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sam3_backend.bulk.pipeline import outcomes
from sam3_backend.bulk.shards import OwnShard
from sam3_backend.bulk.work import Done, Failed, FoundObject, Kept, Task
from sam3_backend.errors import BackendError
from sam3_backend.images import Picture, Sighting
from sam3_backend.label_studio.tasks import picture_uri

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from sam3_backend.bulk.recipe import Recipe
    from sam3_backend.images import PictureFile, PictureLocation
    from sam3_backend.segmenter import PictureSource

BATCH_TASKS = 8
"""Tasks that an actor takes at a time; lost with it, they are predicted again."""
PARALLEL_IN_ACTOR = 4
Rows = dict[str, Any]


def ray_outcomes(tasks: Iterable[Task], recipe: Recipe, actors: int) -> Generator[Done | Failed]:
    """Do every task, in the order in which they finish, on the Ray that this process is connected to.

    Args:
        tasks: What to do.
        recipe: How.
        actors: Models at a time.

    Raises:
        BackendError: An actor cannot go on, say because its disk is full.
    """
    import ray
    import ray.data

    rows = [{"number": task.number, "data": json.dumps(task.data)} for task in tasks]
    if not rows:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    has_gpus = recipe.settings.device != "cpu" and "GPU" in ray.cluster_resources()
    seen: set[int] = set()
    try:
        batches = -(-len(rows) // BATCH_TASKS)
        actors = min(actors, batches)
        listed = ray.data.from_items(rows, override_num_blocks=batches)
        fetched = listed.map_batches(
            Fetch,
            fn_constructor_args=(recipe,),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=4 * actors),
            num_cpus=0.25,
        )
        stream = fetched.map_batches(
            Predict,
            fn_constructor_args=(recipe,),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=0.5,
            num_gpus=int(has_gpus),
        )
        for row in stream.iter_rows():
            outcome = _read(json.loads(row["outcome"]))
            if outcome.task.number not in seen:
                seen.add(outcome.task.number)
                yield outcome
    except ray.exceptions.RayError as fault:
        said = str(fault).strip().rpartition("\n")[2]
        raise BackendError(f"A process of Ray cannot go on: {said} The same command goes on from here.") from fault


class Fetch:
    """Fetches and decodes pictures, on any core."""

    def __init__(self, recipe: Recipe) -> None:
        self._config = recipe.config
        self._access = recipe.access()
        self._pictures = recipe.pictures()

    def __call__(self, rows: Rows) -> Rows:
        """Add each task's picture; none where it cannot be had, which the actor will find out and say."""
        pictures = [self._picture(int(n), data) for n, data in zip(rows["number"], rows["data"], strict=True)]
        return {
            **rows,
            "hash": np.array([each.content_hash if each else "" for each in pictures]),
            "height_px": np.array([each.height_px if each else 0 for each in pictures]),
            "width_px": np.array([each.width_px if each else 0 for each in pictures]),
            "rgb": np.array([each.rgb.tobytes() if each else b"" for each in pictures], dtype=object),
        }

    def _picture(self, number: int, data: str) -> Picture | None:
        task = {"id": number, "data": json.loads(data)}
        try:
            location = self._access.locate(picture_uri(task, self._config), project=None, task_id=number)
            return self._pictures.fetch(location).decode()
        except BackendError:
            return None


class Predict:
    """Predicts tasks with a model of its own, and keeps predictions in a shard of its own where they go into files."""

    def __init__(self, recipe: Recipe) -> None:
        self._config = recipe.config
        self._access = recipe.access()
        self._handed = HandedPictures(recipe.pictures())
        self._predict = recipe.predict(recipe.predictions(self._handed, self._access))
        self._own = OwnShard(recipe.shards) if recipe.shards else None

    def __call__(self, rows: Rows) -> Rows:
        """The outcome of each task, JSON; raises as ``OwnShard.keep``."""
        tasks = [Task(int(n), json.loads(data)) for n, data in zip(rows["number"], rows["data"], strict=True)]
        for place, task in enumerate(tasks):
            if rows["hash"][place]:
                shape = (int(rows["height_px"][place]), int(rows["width_px"][place]), 3)
                rgb = np.frombuffer(rows["rgb"][place], dtype=np.uint8).reshape(shape)
                self._hand(task, Picture(rgb, str(rows["hash"][place])))
        results = list(outcomes(iter(tasks), self._predict, PARALLEL_IN_ACTOR))
        self._handed.take_back()
        return {"outcome": np.array([_written(each) for each in self._keep(results)], dtype=object)}

    def _keep(self, results: list[Done | Failed]) -> list[Done | Failed]:
        if self._own is None:
            return results
        failed = [each for each in results if isinstance(each, Failed)]
        return [*failed, *self._own.keep([each for each in results if isinstance(each, Done)])]

    def _hand(self, task: Task, picture: Picture) -> None:
        described = {"id": task.number, "data": task.data}
        location = self._access.locate(picture_uri(described, self._config), project=None, task_id=task.number)
        self._handed.hand(location, picture)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A picture file that was decoded elsewhere."""

    picture: Picture

    @property
    def content_hash(self) -> str:
        return self.picture.content_hash

    def decode(self) -> Picture:
        return self.picture


class HandedPictures:
    """Pictures that were fetched elsewhere, beside those that still must be.

    Args:
        others: Fetches the others.
    """

    def __init__(self, others: PictureSource) -> None:
        self._others = others
        self._handed: dict[str, Any] = {}

    def hand(self, location: PictureLocation, picture: Picture) -> None:
        """Hold a picture that will be asked for."""
        self._handed[location.url] = _Decoded(picture)

    def take_back(self) -> None:
        """Hold none any more."""
        self._handed.clear()

    def look(self, location: PictureLocation) -> Sighting:
        """Say what stands behind a location."""
        handed = self._handed.get(location.url)
        return Sighting(handed.content_hash, handed) if handed else self._others.look(location)

    def fetch(self, location: PictureLocation) -> PictureFile:
        """The picture's file."""
        handed: PictureFile | None = self._handed.get(location.url)
        return handed or self._others.fetch(location)


def _written(outcome: Done | Failed) -> str:
    return json.dumps({"is_done": isinstance(outcome, Done), **asdict(outcome)})


def _read(written: dict[str, Any]) -> Done | Failed:
    task = Task(**written.pop("task"))
    if not written.pop("is_done"):
        return Failed(task, **written)
    found = tuple(FoundObject(**each) for each in written.pop("found"))
    kept = written.pop("kept")
    return Done(task, found=found, kept=Kept(**kept) if kept else None, **written)
