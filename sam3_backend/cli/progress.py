"""How a long run goes on, for the person who started it: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

LINE_EVERY_S = 30.0
STEADY_S = 600.0
"""The time left is reckoned from this long: predictions of a slow model arrive a minute apart."""


class BulkProgress:
    """Shows how many tasks are done, how fast, until when, and what failed. Thread-safe; use in a ``with`` block.

    Args:
        console: Where; standard error by default.
        line_every_s: Seconds between lines where that is no terminal.
    """

    def __init__(self, console: Console | None = None, line_every_s: float = LINE_EVERY_S) -> None:
        self._console = console or Console(stderr=True)
        self._line_every_s = line_every_s
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("[red]{task.fields[failures]}"),
            console=self._console,
            speed_estimate_period=STEADY_S,
        )
        self._task = self._bar.add_task("reading tasks", total=None, rate="", failures="")
        self._lock = threading.Lock()
        self._failures: Counter[str] = Counter()
        self._written = self._total = 0
        self._began_s = self._told_s = time.monotonic()

    def listing(self, tasks: int) -> None:
        """So many tasks are listed by now."""
        self._bar.update(self._task, completed=tasks)
        self._tell(f"{tasks} tasks read")

    def working(self, total: int) -> None:
        """All are listed; so many wait."""
        self._total, self._began_s = total, time.monotonic()
        self._bar.reset(self._task, description="predictions", total=total, completed=0)

    def written(self, tasks: int) -> None:
        """So many more predictions are where they belong."""
        with self._lock:
            self._written += tasks
        self._show()

    def failed(self, code: str) -> None:
        """One failed."""
        with self._lock:
            self._failures[code] += 1
        self._show()

    def _show(self) -> None:
        with self._lock:
            done = self._written + self._failures.total()
            per_s = done / max(1e-9, time.monotonic() - self._began_s)
            rate = f"{per_s:.2f}/s"
            failures = ", ".join(f"{count} {code}" for code, count in self._failures.most_common())
            left = timedelta(seconds=round((self._total - done) / per_s)) if done else "unknown"
        self._bar.update(self._task, completed=done, rate=rate, failures=failures)
        said = f"{done} of {self._total}, {rate}, time left {left}"
        self._tell(f"{said}, failed: {failures}" if failures else said)

    def _tell(self, said: str) -> None:
        """Say a line, where that is no terminal and the last one was a while ago."""
        with self._lock:
            if self._console.is_terminal or time.monotonic() - self._told_s < self._line_every_s:
                return
            self._told_s = time.monotonic()
        self._console.out(said, highlight=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()
