"""``sam3-backend warm``: have every picture of a project looked at before anybody opens it."""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sam3_backend.cli.finding import PATIENCE_S
from sam3_backend.errors import BackendError, SettingsError
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from sam3_backend.composition import Parts
    from sam3_backend.embeddings.redis_room import RedisRoom
    from sam3_backend.label_studio.client import LabelStudioAccess
    from sam3_backend.label_studio.projects import Project

PUSHED_OUT = {"lru": "what was used longest ago", "lfu": "what was used least", "ttl": "what expires first"}
"""What a full Redis makes room with, by the end of its policy's name."""
PARALLEL_TASKS = 4
"""While one picture is at the model, the next ones are downloaded and the last ones are written to Redis."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "warm",
        help="have every picture of a project looked at beforehand",
        description=(
            "Encode every picture of a Label Studio project into Redis, so that nobody waits for it later. Needs "
            "REDIS_URL, LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, and the model settings of the server."
        ),
    )
    parser.add_argument("--project", type=int, required=True, metavar="N", help="the project's number")
    parser.add_argument("--yes", action="store_true", help="do not ask before Redis is filled")
    return parser


def run(options: argparse.Namespace) -> int:
    """Warm a project.

    Returns:
        0 if every picture is ready, 1 if some are not.

    Raises:
        SettingsError: What the command needs is not set.
        LabelStudioError: Label Studio does not answer.
        BackendError: Redis does not answer.
    """
    import numpy as np

    from sam3_backend.composition import compose
    from sam3_backend.embeddings.redis import room_bytes
    from sam3_backend.embeddings.redis_room import ask_room
    from sam3_backend.label_studio.client import LabelStudioAccess
    from sam3_backend.label_studio.projects import read_project

    settings = Settings.from_environment()
    if settings.redis_url is None or settings.label_studio_url is None or settings.label_studio_api_key is None:
        raise SettingsError("Set REDIS_URL, LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY: all three are needed to warm.")
    logging.getLogger("sam3_backend").setLevel(logging.ERROR)  # the progress bar and the summary say it all
    room = ask_room(settings.redis_url.get_secret_value(), PATIENCE_S)
    access = LabelStudioAccess.from_settings(settings)
    project = read_project(access.api(None), options.project)
    parts = compose(settings, is_awaited=False)
    each_bytes = room_bytes(parts.predictor.encode(np.zeros((8, 8, 3), np.uint8)))  # the same for every picture
    sys.stderr.write(
        f'Project {project.number}, "{project.title}": {project.tasks} tasks. Their embeddings take up to '
        f"{project.tasks * each_bytes / 1e9:.2f} GB in Redis, {each_bytes / 1e6:.1f} MB each.\n"
        f"{_room_in_words(room, project.tasks, each_bytes)}\n"
    )
    if not options.yes and sys.stdin.isatty() and input("Go on? [y/N] ").strip().lower() != "y":
        return 1
    return _warm(project, parts, access)


def _room_in_words(room: RedisRoom, pictures: int, each_bytes: int) -> str:
    """Whether Redis has room for so many embeddings, and what becomes of them where it has not."""
    from sam3_backend.embeddings.redis_room import NO_EVICTION

    if room.limit_bytes is None:
        return f"Whether Redis has that much left is not known: it does not say. {room.untold}"
    if not room.limit_bytes:
        return "Redis has no limit of its own (maxmemory); its machine must have that much memory left."
    fitting = room.fitting(each_bytes)
    left = f"{room.left_bytes / 1e9:.2f} of its {room.limit_bytes / 1e9:.2f} GB (maxmemory) are left"
    if fitting >= pictures:
        return f"Redis has room for them: {left}."
    words = f"Redis has room for {fitting} more of {pictures} pictures: {left}."
    if room.policy is None:
        return f"{words} What it does with the others is not known: it does not say its maxmemory-policy."
    words = f"{words} Its policy is {room.policy}:"
    if room.policy == NO_EVICTION:
        return (
            f"{words} the last {pictures - fitting} will not be stored, but for those that are there already. Set a "
            "larger maxmemory, or maxmemory-policy allkeys-lru."
        )
    pushed_out = PUSHED_OUT.get(room.policy.rpartition("-")[2], "some of what it holds")
    words = f"{words} for the others it pushes out {pushed_out}"
    most = room.fitting_alone(each_bytes)
    if most >= pictures:
        return f"{words}, earlier pictures among it."
    return f"{words}, this project's own first pictures too: no more than {most} are there in the end."


def _warm(project: Project, parts: Parts, access: LabelStudioAccess) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sam3_backend.label_studio.selection import Selection, pages

    console = Console(stderr=True)
    failures: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(PARALLEL_TASKS) as pool:
        bar = progress.add_task("pictures", total=project.tasks)
        for page in pages(access.api(None), project.number, Selection()):
            for failure in pool.map(lambda task: _prepare(task, project, parts, access), page):
                progress.advance(bar)
                if failure:
                    failures.append(failure)
    statistics = parts.store.statistics()
    for line in failures:
        sys.stderr.write(f"{line}\n")
    if statistics.unwritten:
        sys.stderr.write(
            f"{statistics.unwritten} embeddings could not be written. Is Redis full, or out of reach? See its log.\n"
        )
    sys.stderr.write(f"{statistics.made} encoded, {statistics.fetched} were ready, {len(failures)} failed.\n")
    return 1 if failures or statistics.unwritten else 0


def _prepare(task: Mapping[str, Any], project: Project, parts: Parts, access: LabelStudioAccess) -> str | None:
    """Have one task's picture ready; why it is not, otherwise."""
    from sam3_backend.label_studio.tasks import picture_uri
    from sam3_backend.model.scheduler import Priority, Terms

    try:
        uri = picture_uri(task, project.config)
        location = access.locate(uri, project=None, task_id=task["id"])
        parts.segmenter.prepare(location, Terms(Priority.WARM))
    except BackendError as fault:
        return f"Task {task['id']}: {fault.message}"
    parts.store.flush()  # never more in the queue than it holds
    return None
