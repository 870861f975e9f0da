"""``sam3-backend import``: the predictions that a run kept in shards, into a project of Label Studio."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_backend.cli.bulk_run import carry_out, say, summarize
from sam3_backend.errors import InvalidPrompt
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    import argparse

    from sam3_backend.bulk.shards import Shards


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "import",
        help="store predictions that preannotate --project --shards kept in files",
        description=(
            "Store the predictions that 'preannotate --project N --shards D' kept in files in that project; tasks that "
            "hold this model version's prediction already are left out. Stopped or killed, the same command goes on "
            "where it was. Needs LABEL_STUDIO_URL, the same as then, and LABEL_STUDIO_API_KEY; no model is loaded."
        ),
    )
    parser.add_argument("shards", type=Path, metavar="D", help="the folder with the shards")
    parser.add_argument("--project", type=int, required=True, metavar="N", help="the project's number")
    parser.add_argument("--model-version", metavar="V", help="which predictions, where the folder has several versions")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="where the run is kept [preannotate-N.sqlite3]")
    parser.add_argument("--chunk", type=int, default=100, metavar="N", help="predictions stored at a time [100]")
    parser.add_argument("--retry-failed", action="store_true", help="also those that Label Studio refused earlier")
    return parser


def run(options: argparse.Namespace) -> int:
    """Store them.

    Returns:
        0 if every task has its prediction, 1 if some have not.

    Raises:
        InvalidPrompt: The command line cannot be used, or the folder has none for this project.
        LabelStudioError: Label Studio does not answer.
        SettingsError: What the command needs is not set.
    """
    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.only_one import hold_run
    from sam3_backend.bulk.project import ProjectTasks
    from sam3_backend.bulk.writer import Writer
    from sam3_backend.cli.preannotate_jobs import open_project
    from sam3_backend.label_studio.selection import Selection

    if options.chunk < 1:
        raise InvalidPrompt("--chunk must be 1 or more.")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    access, project = open_project(options.project, Settings.from_environment())
    everything = Selection(None, (), False)
    place = ProjectTasks(access.api(None), project.number, everything, "").place
    version, shards = _chosen(options, place)
    tasks = ProjectTasks(access.api(None), project.number, everything, version)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with hold_run(place, version):
        journal = Journal(options.journal or Path(f"preannotate-{project.number}.sqlite3"), place, version)
        try:
            is_complete = carry_out(
                tasks.imported(shards),
                journal,
                lambda tell: Writer(tasks.stored, journal, chunk_tasks=options.chunk, tell=tell),
                shards.outcomes,
                retry_failed=options.retry_failed,
            )
            said = summarize(journal, version, lambda task: f"Task {task.number}")
        finally:
            journal.close()
    return 0 if said and is_complete else 1


def _chosen(options: argparse.Namespace, place: str) -> tuple[str, Shards]:
    """The model version and the shards that are meant."""
    from sam3_backend.bulk.shards import versions

    found = versions(options.shards, place)
    if not found:
        raise InvalidPrompt(
            f"{options.shards} has no predictions for {place}. They are of another project, or were made with another "
            "LABEL_STUDIO_URL, or with --input: then their output is what Label Studio imports."
        )
    version = options.model_version or (next(iter(found)) if len(found) == 1 else None)
    if version not in found:
        listed = "\n".join(f"  {each}" for each in found)
        raise InvalidPrompt(f"Say with --model-version which of these is meant:\n{listed}")
    say(f"{place}: storing what is in {options.shards}, model version {version}.")
    return version, found[version]
