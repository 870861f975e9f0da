"""What a run found, in numbers: read from its journal, so that they cover all the processes it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.work import Task

SCORE_BINS = 20
AREA_EDGES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Upper edges of the histogram of areas, as shares of the picture."""
SLOWEST = 10


@dataclass(frozen=True, slots=True)
class LabelCount:
    """One label's share.

    Attributes:
        label: Its name, empty for objects without one.
        objects: How many were found.
        tasks: In how many tasks.
        mean_score: Their mean score, [0, 1]; None without any.
    """

    label: str
    objects: int
    tasks: int
    mean_score: float | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """A run in numbers.

    Attributes:
        counts: How many tasks are in each state.
        labels: What was found, the most frequent first.
        scores: Objects by score, ``SCORE_BINS`` equal bins over [0, 1].
        areas: Objects by their share of the picture, one bin per edge in ``AREA_EDGES``.
        empty: Tasks in which nothing was found.
        slowest: Tasks that took longest, with their seconds.
        failures: How many tasks failed, by the fault's code.
    """

    counts: dict[str, int]
    labels: tuple[LabelCount, ...]
    scores: tuple[int, ...]
    areas: tuple[int, ...]
    empty: int
    slowest: tuple[tuple[int, float], ...]
    failures: dict[str, int]


def read_statistics(journal: Journal, looked_for: Iterable[str] = ()) -> Statistics:
    """Count what is in a run's journal.

    Args:
        journal: The run's.
        looked_for: Labels that are counted even where nothing was found.
    """
    found = journal.select(
        "SELECT label, COUNT(*), COUNT(DISTINCT number), AVG(score) FROM found_written WHERE run = ? GROUP BY label "
        "ORDER BY COUNT(*) DESC, label"
    )
    missing = [label for label in looked_for if label not in {row[0] for row in found}]
    return Statistics(
        counts=journal.counts(),
        labels=tuple(LabelCount(*row) for row in (*found, *((label, 0, 0, None) for label in missing))),
        scores=_histogram(journal, "score", [(place + 1) / SCORE_BINS for place in range(SCORE_BINS)]),
        areas=_histogram(journal, "area_share", AREA_EDGES),
        empty=_number(
            journal,
            "SELECT COUNT(*) FROM tasks WHERE run = ? AND state = 'written' "
            "AND NOT EXISTS (SELECT 1 FROM found WHERE found.run = tasks.run AND found.number = tasks.number)",
        ),
        slowest=tuple(
            journal.select(
                "SELECT number, took_s FROM tasks WHERE run = ? AND state = 'written' ORDER BY took_s DESC LIMIT ?",
                SLOWEST,
            )
        ),
        failures=dict(
            journal.select(
                "SELECT code, COUNT(*) FROM tasks WHERE run = ? AND state = 'failed' GROUP BY code ORDER BY 2 DESC"
            )
        ),
    )


def spread_tasks(journal: Journal, wanted: int) -> list[Task]:
    """A few of the tasks with objects in them, from the first to the last."""
    numbers = [
        number for (number,) in journal.select("SELECT DISTINCT number FROM found WHERE run = ? ORDER BY number")
    ]
    step = max(1, len(numbers) // wanted)
    return journal.tasks(numbers[::step][:wanted])


def _number(journal: Journal, query: str) -> int:
    return int(journal.select(query)[0][0])


def _histogram(journal: Journal, column: str, edges: Sequence[float]) -> tuple[int, ...]:
    """How many objects lie below each edge and not below the one before, in one pass over them all."""
    sums = ", ".join(f"TOTAL({column} <= ?{place})" for place in range(2, 2 + len(edges)))
    ((*below,),) = journal.select(f"SELECT {sums} FROM found_written WHERE run = ?1", *edges)  # noqa: S608 - names of ours
    return tuple(int(upper - lower) for lower, upper in zip([0.0, *below], below, strict=False))
