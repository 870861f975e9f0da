"""What ``sam3-backend preannotate`` works on, from its options: a project of Label Studio, or files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_backend.bulk.file_output import ShardWriter, write_output
from sam3_backend.bulk.files import FileTasks
from sam3_backend.bulk.project import ProjectTasks
from sam3_backend.bulk.recipe import Recipe
from sam3_backend.bulk.sample import Artist
from sam3_backend.bulk.shards import Shards
from sam3_backend.bulk.writer import Writer
from sam3_backend.errors import InvalidPrompt, InvalidRequest, SettingsError
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.label_studio.importable import config_for
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.projects import read_project
from sam3_backend.label_studio.selection import Selection, read_filter
from sam3_backend.label_studio.wanted import looking_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.preannotate import Listing, Writes
    from sam3_backend.bulk.work import Task
    from sam3_backend.label_studio.projects import Project
    from sam3_backend.settings import Settings

API_TIMEOUT_S = 60.0
"""Label Studio takes seconds for a chunk of predictions, more where the project is large."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to pre-annotate.

    Attributes:
        title: What to call it before people.
        place: What the journal calls it.
        version: Model version of the predictions.
        journal: Where its journal is unless something else is asked for.
        artist: Predicts single tasks and draws them.
        recipe: How predictions are made, for an engine.
        listing: Gives the tasks, for a journal.
        writer: Writes predictions; is told of those it wrote.
        sample: A few of the tasks, from all over.
        finish: What to do when nothing is left.
        name: What to call a task, or its number.
        is_stored: Whether predictions go into Label Studio, where those of another run may arrive, too.
    """

    title: str
    place: str
    version: str
    journal: Path
    artist: Artist
    recipe: Recipe
    listing: Callable[[Journal], Listing]
    writer: Callable[[Journal, Callable[[int], None]], Writes]
    sample: Callable[[int], list[Task]]
    finish: Callable[[Journal], None]
    name: Callable[[Task], str]
    is_stored: bool = False


def open_project(number: int, settings: Settings) -> tuple[LabelStudioAccess, Project]:
    """A project of the Label Studio that is set, and the way to it.

    Raises:
        SettingsError: None is set.
        LabelStudioError: It does not answer.
    """
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        raise SettingsError("Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY: they say where the tasks are.")
    key = settings.label_studio_api_key.get_secret_value()
    access = LabelStudioAccess(url=settings.label_studio_url, api_key=key, timeout_s=API_TIMEOUT_S)
    return access, read_project(access.api(None), number)


def project_job(options: argparse.Namespace, settings: Settings, say: Callable[[str], None]) -> Job:
    """A project of Label Studio.

    Raises:
        SettingsError: What it needs is not set.
        InvalidPrompt: The options contradict themselves or the labelling config.
        LabelStudioError: Label Studio does not answer.
        CheckpointError: The checkpoint cannot be used.
    """
    try:
        selection = Selection(options.view, tuple(map(read_filter, options.filter)), options.only_unlabeled)
    except InvalidRequest as fault:
        raise InvalidPrompt(fault.message) from fault  # wrong usage
    access, project = open_project(options.project, settings)
    config = looking_for(project.config, options.text) if options.text else project.config
    title = f'Project {project.number}, "{project.title}"'
    say(f"{title}: {project.tasks} tasks. Loading the model.")
    recipe = Recipe(settings, config)
    pictures = recipe.pictures()
    predictions = recipe.predictions(pictures, access)
    version = predictions.model_version(config)
    tasks = ProjectTasks(access.api(None), project.number, selection, version)
    job = Job(
        title=title,
        place=tasks.place,
        version=version,
        journal=Path(f"preannotate-{project.number}.sqlite3"),
        artist=Artist(predictions, config, access, pictures.fetch),
        recipe=recipe,
        listing=lambda _journal: tasks.listing(options.limit),
        writer=lambda journal, tell: Writer(tasks.stored, journal, chunk_tasks=options.chunk, tell=tell),
        sample=tasks.sample,
        finish=lambda _journal: None,
        name=lambda task: f"Task {task.number}",
        is_stored=True,
    )
    if options.shards is None:
        return job
    shards = Shards.of(options.shards, tasks.place, version)
    return replace(
        job,
        place=f"{tasks.place} in {shards.folder}",
        recipe=replace(recipe, shards=shards),
        listing=lambda journal: tasks.listing(options.limit, journal.keeps),
        writer=lambda journal, tell: ShardWriter(journal, shards, tell),
        finish=lambda _journal: say(
            f"The predictions are in {shards.folder}. To store them: "
            f"sam3-backend import {shards.folder} --project {project.number}"
        ),
        is_stored=False,
    )


def file_job(options: argparse.Namespace, settings: Settings, say: Callable[[str], None]) -> Job:
    """Pictures and tasks in files, without any Label Studio.

    Raises:
        InvalidPrompt: The options contradict themselves or the labelling config, or the input cannot be read.
        CheckpointError: The checkpoint cannot be used.
    """
    config = _config(options, say)
    tasks = FileTasks(options.input, config.data_key, options.url_prefix, LabelStudioAccess.from_settings(settings))
    try:
        total = sum(1 for _ in tasks.entries())
    except InvalidRequest as fault:
        raise InvalidPrompt(fault.message) from fault  # wrong usage
    say(f"{options.input}: {total} tasks. Loading the model.")
    recipe = Recipe(settings, config, options.input.resolve(), options.format == "coco")
    pictures = recipe.pictures()
    predictions = recipe.predictions(pictures, tasks)
    version = predictions.model_version(config)
    place = f"{options.input.resolve()} as {options.format}"
    shards = Shards.of(options.shards or options.output.with_suffix(".shards"), place, version)
    return Job(
        title=str(options.input),
        place=place,
        version=version,
        journal=options.output.with_suffix(".sqlite3"),
        artist=Artist(predictions, config, tasks, pictures.fetch),
        recipe=replace(recipe, shards=shards),
        listing=lambda journal: tasks.listing(journal.keeps, options.limit),
        writer=lambda journal, tell: ShardWriter(journal, shards, tell),
        sample=partial(_spread, tasks, total),
        finish=lambda journal: write_output(options.output, options.format, tasks.entries, journal, shards),
        name=lambda task: str(task.data.get(config.data_key, task.number)),
    )


def _config(options: argparse.Namespace, say: Callable[[str], None]) -> LabelConfig:
    """The labelling config given, or one made of the texts, which is left beside the output."""
    if options.config is not None:
        try:
            config = LabelConfig.parse(options.config.read_text(encoding="utf-8"))
        except OSError as fault:
            raise InvalidPrompt(f"{options.config} cannot be read: {fault.strerror}.") from fault
        return looking_for(config, options.text) if options.text else config
    xml = config_for(options.text)
    path = options.output.with_suffix(".label_config.xml")
    try:
        path.write_text(xml, encoding="utf-8")
    except OSError as fault:
        raise InvalidPrompt(f"{path} cannot be written: {fault.strerror}.") from fault
    say(f"{path} is the labelling config that fits these predictions.")
    return LabelConfig.parse(xml)


def _spread(tasks: FileTasks, total: int, wanted: int) -> list[Task]:
    places = {place * total // wanted for place in range(wanted)}
    return [entry.task for place, entry in enumerate(tasks.entries()) if place in places]
