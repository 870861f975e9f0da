"""``sam3-backend preannotate``: predictions for a whole project, stopped and gone on with as one likes."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_backend.errors import InvalidPrompt, InvalidRequest, LabelStudioError, SettingsError
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.project import ProjectTasks
    from sam3_backend.bulk.work import Done, Task
    from sam3_backend.label_studio.predictions import Predictions

API_TIMEOUT_S = 60.0
"""Label Studio takes seconds for a chunk of predictions, more where the project is large."""
EMBEDDING_MEMORY_BYTES = 256 * 1024**2
"""Each picture is looked at once, so little is gained by remembering many."""
FAILURES_SHOWN = 20


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "preannotate",
        help="predict all tasks of a project; can be stopped and gone on with",
        description=(
            "Predict the tasks of a Label Studio project by its labels and store the predictions there. Tasks that "
            "hold this model version's prediction already are left out. Stopped or killed, the same command goes on "
            "where it was. Needs LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, and the model settings of the server."
        ),
    )
    parser.add_argument("--project", type=int, required=True, metavar="N", help="the project's number")
    which = parser.add_argument_group("which tasks (all)")
    which.add_argument("--view", type=int, metavar="N", help="those in a tab of the Data Manager, its ?tab=N")
    which.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="F",
        help='those that pass "COLUMN OPERATOR VALUE", for example "data.city equal Oslo" or "id greater 100"; may be '
        "given several times",
    )
    which.add_argument("--only-unlabeled", action="store_true", help="those without an annotation")
    which.add_argument("--limit", type=_count, metavar="N", help="no more than this many")
    which.add_argument("--retry-failed", action="store_true", help="also those that failed in an earlier run")
    parser.add_argument(
        *("--text", "-t"),
        action="append",
        default=[],
        metavar="LABEL=T,T",
        help='look for this instead of the labels: "Vehicle=car,truck"; may be given several times',
    )
    parser.add_argument("--journal", type=Path, metavar="FILE", help="where the run is kept [preannotate-N.sqlite3]")
    parser.add_argument("--chunk", type=_count, default=100, metavar="N", help="predictions stored at a time [100]")
    parser.add_argument("--parallel", type=_count, default=8, metavar="N", help="tasks under way at a time [8]")
    look = parser.add_argument_group("look before spending hours")
    look.add_argument("--dry-run", action="store_true", help="store nothing; predict a few tasks and draw them")
    look.add_argument("--sample", type=_count, default=8, metavar="N", help="how many, from all over the project [8]")
    look.add_argument("--overlay-dir", type=Path, metavar="D", help="where the drawn pictures go [overlays]")
    return parser


def run(options: argparse.Namespace) -> int:
    """Pre-annotate.

    Returns:
        0 if every task has its prediction, 1 if some have not, 2 where the command line cannot be used.

    Raises:
        LabelStudioError: Label Studio does not answer any more.
        SettingsError: What the command needs is not set.
    """
    from sam3_backend.bulk.project import ProjectTasks, predicting
    from sam3_backend.composition import compose, label_predictions
    from sam3_backend.label_studio.client import LabelStudioAccess
    from sam3_backend.label_studio.projects import read_project
    from sam3_backend.label_studio.selection import Selection, read_filter
    from sam3_backend.label_studio.wanted import looking_for

    settings = Settings.from_environment(embedding_memory_bytes=EMBEDDING_MEMORY_BYTES)
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        raise SettingsError("Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY: they say where the tasks are.")
    try:
        selection = Selection(options.view, tuple(map(read_filter, options.filter)), options.only_unlabeled)
    except InvalidRequest as fault:
        raise InvalidPrompt(fault.message) from fault  # wrong usage
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    access = LabelStudioAccess(
        url=settings.label_studio_url,
        api_key=settings.label_studio_api_key.get_secret_value(),
        timeout_s=API_TIMEOUT_S,
    )
    api = access.api(None)
    project = read_project(api, options.project)
    config = looking_for(project.config, options.text) if options.text else project.config
    sys.stderr.write(f'Project {project.number}, "{project.title}": {project.tasks} tasks. Loading the model.\n')
    predictions = label_predictions(compose(settings), access)
    tasks = ProjectTasks(api, access, options.project, config, selection, predictions.model_version(config))
    if options.dry_run:
        return _dry_run(options, settings, tasks, predictions)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = options.journal or Path(f"preannotate-{options.project}.sqlite3")
    return _run(options, tasks, path, predicting(predictions, config))


def _run(options: argparse.Namespace, project: ProjectTasks, path: Path, predict: Callable[[Task], Done]) -> int:
    from sam3_backend.bulk import preannotate
    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.writer import Writer
    from sam3_backend.cli.progress import BulkProgress

    journal = Journal(path, project.place, project.version)
    try:
        with BulkProgress() as progress:
            writer = Writer(project.stored, journal, chunk_tasks=options.chunk, tell=progress.written)
            preannotate.run(
                *(project.listing(options.limit), journal, writer, predict, progress),
                parallel=options.parallel,
                retry_failed=options.retry_failed,
            )
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The same command goes on from here.\n")
    except LabelStudioError as fault:
        sys.stderr.write(f"sam3-backend: {fault.message}\nThe same command goes on from here.\n")
    finally:
        is_complete = _tell(journal, project.version)
        journal.close()
    return 0 if is_complete else 1


def _tell(journal: Journal, version: str) -> bool:
    """Say what the run came to; whether every task has its prediction."""
    counts = journal.counts()
    failures = list(journal.failures())
    for number, _, message in failures[:FAILURES_SHOWN]:
        sys.stderr.write(f"Task {number}: {message}\n")
    if len(failures) > FAILURES_SHOWN:
        sys.stderr.write(f"... and {len(failures) - FAILURES_SHOWN} more.\n")
    left = counts.get("waiting", 0) + counts.get("sending", 0)
    sys.stderr.write(
        f"{counts.get('written', 0)} predicted, {counts.get('held', 0)} had been already, {len(failures)} failed, "
        f"{left} left. Model version {version}\n"
    )
    if failures:
        sys.stderr.write("--retry-failed tries those that failed again.\n")
    return not failures and not left


def _dry_run(options: argparse.Namespace, settings: Settings, project: ProjectTasks, predictions: Predictions) -> int:
    """Predict a few tasks, draw them, store nothing."""
    from sam3_backend.bulk.sample import draw_samples
    from sam3_backend.images import PictureLoader

    folder = options.overlay_dir or Path("overlays")
    loader = PictureLoader.from_settings(settings)
    failed = 0
    for name, said, is_drawn in draw_samples(project.sample(options.sample), project, predictions, loader, folder):
        failed += not is_drawn
        sys.stdout.write(f"{name}: {said}\n")
    sys.stdout.write("Nothing was stored in Label Studio.\n")
    return 1 if failed else 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
