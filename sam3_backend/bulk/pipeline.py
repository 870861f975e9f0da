"""Work on several tasks at a time, never on many, and try again what may succeed later.

While one task is at the model, the next ones are downloaded and decoded and the last ones become run lengths: each
task goes through its stages in a thread of its own, and the model takes them in turn. Knows no stage.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from sam3_backend.bulk.work import Done, Failed, Task
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

logger = logging.getLogger(__name__)

RETRY_AFTER_S = (1.0, 5.0, 20.0)
"""Waits before the second, third and fourth attempt at a task whose fault may pass."""


def outcomes(
    tasks: Iterator[Task],
    work: Callable[[Task], Done],
    parallel: int,
    retry_after_s: tuple[float, ...] = RETRY_AFTER_S,
) -> Generator[Done | Failed]:
    """Do every task, in the order in which they finish.

    A task is taken from ``tasks`` when there is a thread for it, and the next one only when the caller has taken the
    outcome of one before: nothing piles up where the caller is slow.

    Args:
        tasks: What to do.
        work: Does one; called in several threads.
        parallel: How many tasks are under way at a time.
        retry_after_s: Seconds to wait before each further attempt.
    """
    under_way: dict[Future[Done], tuple[Task, int]] = {}
    later: list[tuple[float, int, Task, int]] = []
    order = itertools.count()
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="bulk")
    try:
        while True:
            while len(under_way) < parallel and (chosen := _next(tasks, later)):
                under_way[pool.submit(work, chosen[0])] = chosen
            if not under_way and not later:
                return
            until_s = later[0][0] - time.monotonic() if later and len(under_way) < parallel else None
            if not under_way:
                time.sleep(max(0.0, until_s or 0.0))
                continue
            finished, _ = wait(under_way, until_s, FIRST_COMPLETED)
            for future in finished:
                task, attempt = under_way.pop(future)
                outcome, may_pass = _outcome(future, task)
                if may_pass and attempt < len(retry_after_s):
                    heapq.heappush(later, (time.monotonic() + retry_after_s[attempt], next(order), task, attempt + 1))
                else:
                    yield outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _next(tasks: Iterator[Task], later: list[tuple[float, int, Task, int]]) -> tuple[Task, int] | None:
    """A task whose time has come, and how many attempts there were."""
    if later and later[0][0] <= time.monotonic():
        _, _, task, attempt = heapq.heappop(later)
        return task, attempt
    task_or_none = next(tasks, None)
    return None if task_or_none is None else (task_or_none, 0)


def _outcome(future: Future[Done], task: Task) -> tuple[Done | Failed, bool]:
    """What came of a task, and whether another attempt may give more."""
    try:
        return future.result(), False
    except BackendError as fault:
        return Failed(task, fault.code, fault.message), fault.retryable
    except Exception as fault:  # one task must not end a run of a million
        logger.exception("Task %d failed", task.number)
        return Failed(task, "unexpected", f"Something unexpected happened: {fault!r}. See the log."), False
