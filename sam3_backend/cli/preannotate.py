"""``sam3-backend preannotate``: predictions for a whole project, stopped and gone on with as one likes."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_backend.cli.bulk_run import say
from sam3_backend.errors import BackendError, InvalidPrompt
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.work import Done, Failed, Task
    from sam3_backend.cli.preannotate_jobs import Job

EMBEDDING_MEMORY_BYTES = 256 * 1024**2
"""Each picture is looked at once, so little is gained by remembering many."""
PARALLEL, PARALLEL_ON_CPU = 8, 4
"""On a CPU, every further thread that calls the model costs it time: eight of them a quarter of its rate."""
REPORT_SAMPLES = 6


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "preannotate",
        help="predict all tasks of a project or a folder; can be stopped and gone on with",
        description=(
            "Predict the tasks of a Label Studio project by its labels and store the predictions there; tasks that "
            "hold this model version's prediction already are left out. Or predict pictures in files and write a file. "
            "Stopped or killed, the same command goes on where it was. With --project it needs LABEL_STUDIO_URL and "
            "LABEL_STUDIO_API_KEY; the model settings are those of the server."
        ),
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--project", type=int, metavar="N", help="the project's number")
    what.add_argument(
        "--input", type=Path, metavar="PATH", help="a folder, a .json list of tasks, or a .jsonl with one task a line"
    )
    files = parser.add_argument_group("with --input")
    files.add_argument("--output", type=Path, metavar="FILE", help="where the predictions go")
    files.add_argument(
        "--format",
        choices=("label-studio", "coco"),
        default="label-studio",
        help="tasks with predictions that Label Studio imports, or COCO instances [label-studio]",
    )
    files.add_argument("--config", type=Path, metavar="FILE", help="labelling config; without one, --text makes it")
    files.add_argument(
        "--url-prefix",
        default="/data/local-files/?d=",
        metavar="URL",
        help="what Label Studio finds a folder's pictures under [/data/local-files/?d=]",
    )
    which = parser.add_argument_group("which tasks (without any of these: all)")
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
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="where the run is kept [preannotate-N.sqlite3, or beside --output]"
    )
    parser.add_argument(
        "--shards",
        type=Path,
        metavar="D",
        help="keep predictions in files in this folder: with --project, instead of storing them (then: sam3-backend "
        "import); with --input, instead of beside --output",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="HTML report [beside the journal]")
    parser.add_argument("--chunk", type=_count, default=100, metavar="N", help="predictions stored at a time [100]")
    parser.add_argument(
        "--parallel",
        type=_count,
        metavar="N",
        help=f"tasks under way at a time [{PARALLEL}, {PARALLEL_ON_CPU} where the model computes on a CPU]",
    )
    engine = parser.add_argument_group("on many processes or machines (extra: ray)")
    engine.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="ray: RAY_ADDRESS says which cluster [local]"
    )
    engine.add_argument("--actors", type=_count, default=1, metavar="N", help="models at a time with Ray [1]")
    look = parser.add_argument_group("look before spending hours")
    look.add_argument("--dry-run", action="store_true", help="store nothing; predict a few tasks and draw them")
    look.add_argument("--sample", type=_count, default=8, metavar="N", help="how many, from all over the project [8]")
    look.add_argument("--overlay-dir", type=Path, metavar="D", help="where the drawn pictures go [overlays]")
    return parser


def run(options: argparse.Namespace) -> int:
    """Pre-annotate.

    Returns:
        0 if every task has its prediction, 1 if some have not.

    Raises:
        InvalidPrompt: The command line cannot be used.
        LabelStudioError: Label Studio does not answer.
        SettingsError: What the command needs is not set.
    """
    settings = Settings.from_environment(embedding_memory_bytes=EMBEDDING_MEMORY_BYTES)
    options.device = settings.device
    if options.engine == "ray" and not options.dry_run:
        # This process predicts nothing but samples; GPUs are for the actors.
        settings = settings.model_copy(update={"device": "cpu"})
    _check(options)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from sam3_backend.cli.preannotate_jobs import file_job, project_job
    from sam3_backend.composition import DEMO_NOTICE

    with _cluster(options):
        job = (project_job if options.input is None else file_job)(options, settings, say)
        if settings.model_checkpoint == "demo":
            say(DEMO_NOTICE)
        if options.dry_run:
            return _dry_run(options, job)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return _run(options, job)


def _cluster(options: argparse.Namespace) -> AbstractContextManager[None]:
    """The Ray to work on, before hours are spent on anything else."""
    if options.engine != "ray" or options.dry_run:
        return nullcontext()
    from sam3_backend.bulk.ray_cluster import ray_cluster

    return ray_cluster()


def _check(options: argparse.Namespace) -> None:
    if options.input is None:
        alone = {"--output": options.output, "--config": options.config}
    else:
        alone = {"--view": options.view, "--filter": options.filter, "--only-unlabeled": options.only_unlabeled}
        if options.output is None:
            raise InvalidPrompt("--input needs --output: where should the predictions go?")
    for name, given in alone.items():
        if given:
            raise InvalidPrompt(f"{name} does not go with {'--project' if options.input is None else '--input'}.")


def _run(options: argparse.Namespace, job: Job) -> int:
    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.only_one import hold_run
    from sam3_backend.cli import bulk_run

    with hold_run(job.place, job.version) if job.is_stored else nullcontext():
        engine = _engine(options, job)
        path = options.journal or job.journal
        journal = Journal(path, job.place, job.version)
        try:
            is_complete = bulk_run.carry_out(
                *(job.listing(journal), journal, partial(job.writer, journal), engine),
                retry_failed=options.retry_failed,
            )
            if is_complete:
                job.finish(journal)
                _report(options.report or path.with_suffix(".html"), job, journal)
            has_all = bulk_run.summarize(journal, job.version, job.name, _looked_for(job))
            return 0 if has_all and is_complete else 1
        finally:
            journal.close()


def _looked_for(job: Job) -> list[str]:
    return [label.stored_name for label in job.artist.config.labels]


def _engine(options: argparse.Namespace, job: Job) -> Callable[[Iterator[Task]], Generator[Done | Failed]]:
    if options.engine == "ray":
        from sam3_backend.bulk.ray_engine import ray_outcomes

        recipe = replace(job.recipe, settings=job.recipe.settings.model_copy(update={"device": options.device}))
        return partial(ray_outcomes, recipe=recipe, actors=options.actors)
    from sam3_backend.bulk.pipeline import outcomes

    predictions = job.artist.predictions
    parallel = options.parallel or (PARALLEL_ON_CPU if predictions.is_on_cpu else PARALLEL)
    return partial(outcomes, work=job.recipe.predict(predictions), parallel=parallel)


def _report(path: Path, job: Job, journal: Journal) -> None:
    from sam3_backend.bulk.report import render_report
    from sam3_backend.bulk.statistics import read_statistics, spread_tasks

    samples = job.artist.draw(spread_tasks(journal, REPORT_SAMPLES))
    statistics = read_statistics(journal, _looked_for(job))
    named = {task.number: job.name(task) for task in journal.tasks([number for number, _ in statistics.slowest])}
    html = render_report(
        job.title,
        job.version,
        statistics,
        list(journal.failures()),
        samples,
        lambda task: named[task] if isinstance(task, int) else job.name(task),
    )
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as fault:
        raise BackendError(f"{path} cannot be written: {fault.strerror}.") from fault
    say(f"Report: {path}")


def _dry_run(options: argparse.Namespace, job: Job) -> int:
    """Predict a few tasks, draw them, store nothing."""
    folder = options.overlay_dir or Path("overlays")
    failed = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for sample in job.artist.draw(job.sample(options.sample)):
            said = f"{job.name(sample.task)}: {sample.said}"
            if sample.drawing is None:
                failed += 1
            else:
                path = folder / f"task-{sample.task.number}.png"
                sample.drawing.save(path)
                said = f"{said}, drawn in {path}"
            sys.stdout.write(said + "\n")
    except OSError as fault:
        raise BackendError(f"{folder} cannot be written: {fault.strerror}.") from fault
    sys.stdout.write("Nothing was stored.\n")
    return 1 if failed else 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
