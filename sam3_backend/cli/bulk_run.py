"""A bulk run as a person sees it: how it goes on, why it stopped, and what it came to."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

from sam3_backend.errors import LabelStudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.preannotate import Listing, Writes
    from sam3_backend.bulk.work import Done, Failed, Task

FAILURES_SHOWN = 20


def carry_out(
    listing: Listing,
    journal: Journal,
    writer: Callable[[Callable[[int], None]], Writes],
    engine: Callable[[Iterator[Task]], Generator[Done | Failed]],
    *,
    retry_failed: bool = False,
) -> bool:
    """Do what is left of a run, with its progress on the terminal; whether it came to its end.

    Args:
        listing: Where the tasks come from.
        journal: What is done already.
        writer: Makes what writes predictions, of what is to be told how many were written.
        engine: Predicts tasks.
        retry_failed: Whether tasks that failed in an earlier run are tried again.
    """
    from sam3_backend.bulk import preannotate
    from sam3_backend.cli.progress import BulkProgress

    try:
        with BulkProgress() as progress:
            writes = writer(progress.written)
            preannotate.run(listing, journal, writes, engine, progress, retry_failed=retry_failed)
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from here.")
    except LabelStudioError as fault:
        say(f"sam3-backend: {fault.message}\nThe same command goes on from here.")
    else:
        return True
    return False


def summarize(journal: Journal, version: str, name: Callable[[Task], str], looked_for: Iterable[str] = ()) -> bool:
    """Say what the run came to; whether every task has its prediction.

    Args:
        journal: The run's.
        version: Model version of its predictions.
        name: What to call a task.
        looked_for: Labels that are listed even where nothing was found.
    """
    from rich.console import Console
    from rich.table import Table

    from sam3_backend.bulk.report import score_shown
    from sam3_backend.bulk.statistics import read_statistics

    statistics = read_statistics(journal, looked_for)
    table = Table("label", "objects", "tasks", "mean score")
    for each in statistics.labels:
        table.add_row(each.label or "(none)", f"{each.objects:,}", f"{each.tasks:,}", score_shown(each))
    if statistics.labels:
        Console(stderr=True, highlight=False).print(table)
    for task, _, message in itertools.islice(journal.failures(), FAILURES_SHOWN):
        say(f"{name(task)}: {message}")
    counts, failed = statistics.counts, statistics.counts.get("failed", 0)
    if failed > FAILURES_SHOWN:
        say(f"... and {failed - FAILURES_SHOWN} more.")
    left = counts.get("waiting", 0) + counts.get("sending", 0)
    say(
        f"{counts.get('written', 0)} predicted, {counts.get('held', 0)} had been already, {failed} failed, "
        f"{left} left. Model version {version}"
    )
    if failed:
        say("--retry-failed tries those that failed again.")
    return not failed and not left


def say(words: str) -> None:
    """Tell the person who started the command."""
    sys.stderr.write(words + "\n")
