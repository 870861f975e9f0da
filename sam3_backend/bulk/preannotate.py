"""A bulk run as a whole: which tasks, their predictions, and where these go.

Going on with a run that was stopped is the same as starting one: the journal knows what is left. Does not know where
tasks come from, nor how a prediction is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sam3_backend.bulk.work import Failed
from sam3_backend.errors import LabelStudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.work import Done, Task


class Writes(Protocol):
    """Where predictions go: ``writer.Writer``."""

    def reconcile(self) -> int:
        """Find out what became of what an earlier process was sending."""

    def add(self, done: Done) -> None:
        """Write a prediction, now or with the next ones."""

    def close(self) -> None:
        """Write what is left."""

    def abandon(self) -> None:
        """Write nothing more."""

    def settle(self) -> int:
        """Remove what was stored twice."""


class Watches(Protocol):
    """Who is told how the run goes on."""

    def listing(self, tasks: int) -> None:
        """So many tasks are listed by now."""

    def working(self, total: int) -> None:
        """All are listed; so many wait."""

    def failed(self, code: str) -> None:
        """One failed."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Where the tasks come from.

    Attributes:
        selection: Which tasks are meant, as text; a journal that has listed the same ones is not listed again.
        pages: Gives them, page by page.
        holders: Which of some tasks hold their prediction already.
        limit: Most tasks that are predicted; None for all.
        is_quick: Whether reading them is so quick that every process does it.
    """

    selection: str
    pages: Callable[[], Iterable[Sequence[Task]]]
    holders: Callable[[Sequence[int]], set[int]]
    limit: int | None = None
    is_quick: bool = False


def run(
    listing: Listing,
    journal: Journal,
    writer: Writes,
    engine: Callable[[Iterator[Task]], Generator[Done | Failed]],
    watch: Watches,
    *,
    retry_failed: bool = False,
) -> None:
    """Do what is left of a run; what it came to is in the journal.

    Args:
        listing: Where the tasks come from.
        journal: What is done already.
        writer: Where predictions go.
        engine: Predicts tasks, in whatever order: ``pipeline.outcomes`` here, ``ray_engine.ray_outcomes`` elsewhere.
        watch: Is told how it goes on.
        retry_failed: Whether tasks that failed in an earlier run are tried again.

    Raises:
        LabelStudioError: It does not answer any more. What is done is kept.
        KeyboardInterrupt: Somebody stopped the run. What was predicted until then is written first.
    """
    writer.reconcile()
    if retry_failed:
        journal.wait_again()
    # Listed anew for those that failed too: somebody may have mended their data.
    is_listed = journal.selection == listing.selection and bool(journal.counts().get("waiting"))
    if listing.is_quick or retry_failed or not is_listed:
        _list(listing, journal, watch)
    watch.working(journal.counts().get("waiting", 0))
    results = engine(journal.waiting())
    try:
        for outcome in results:
            if isinstance(outcome, Failed):
                journal.failed(outcome.task.number, outcome.code, outcome.message)
                watch.failed(outcome.code)
            else:
                writer.add(outcome)
    except LabelStudioError:
        writer.abandon()
        raise
    except BaseException:
        writer.close()
        raise
    finally:
        results.close()
    writer.close()
    writer.settle()


def _list(listing: Listing, journal: Journal, watch: Watches) -> None:
    """Put all tasks that are meant into the journal, without those that hold their prediction already."""
    journal.forget_waiting()
    failed = {task.number for task, _, _ in journal.failures()}
    listed, left = 0, listing.limit
    for page in listing.pages():
        held = listing.holders([task.number for task in page])
        missing = [task for task in page if task.number not in held and task.number not in failed]
        if left is not None:
            missing = missing[:left]
            left -= len(missing)
        kept = {task.number for task in missing} | held
        journal.list_tasks([task for task in page if task.number in kept], held)
        listed += len(page)
        watch.listing(listed)
        if left == 0:
            break
    journal.listed(listing.selection)
