"""Predictions into Label Studio, chunk by chunk: each exactly once, whatever is killed meanwhile.

A chunk is announced in the journal before it leaves, and what of it Label Studio holds by then is not sent. Where the
outcome is unknown (no answer, a crash in between), Label Studio is asked which of its tasks hold their prediction, the
others are sent again, and because the first attempt may still arrive late, copies are looked for at the end.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from sam3_backend.bulk.other_run import OtherRun
from sam3_backend.errors import LabelStudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.work import Done

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

CHUNK_TASKS = 100
CHUNK_REGIONS = 2000
"""A chunk ends at this many regions as well: a mask is a few kilobytes, and the body must stay of a few megabytes."""
CHUNK_S = 20.0
"""And after this many seconds, so that little is lost where predictions come slowly."""
LATE_S = 20.0
"""A request that was sent longer ago than this has been carried out by Label Studio, or never will be."""
RETRY_AFTER_S = (1.0, 3.0, 10.0, 30.0, 60.0)
_PASSING = {408, 429}
_FINAL = {401, 403, 404}
"""Refusals that say nothing of the predictions, and that only a person can do something about."""


class Stores(Protocol):
    """Where predictions go: ``label_studio.stored_predictions.StoredPredictions``."""

    def holders(self, tasks: Sequence[int]) -> set[int]:
        """Which of these tasks hold their prediction."""

    def add(self, predictions: Mapping[int, Mapping[str, Any]]) -> int:
        """Store one prediction for each of some tasks; how many were taken."""

    def remove_copies(self, task: int) -> int:
        """Leave a task one prediction; how many were removed."""


class Writer:
    """Writes one run's predictions. ``add`` and ``close`` from one thread; chunks travel in another.

    Args:
        stores: Where they go.
        journal: Where it is written down.
        chunk_tasks: Most tasks of a chunk.
        tell: Told how many predictions were written, each time some were.
        sleep: Waits, seconds.
    """

    def __init__(
        self,
        stores: Stores,
        journal: Journal,
        *,
        chunk_tasks: int = CHUNK_TASKS,
        tell: Callable[[int], None] = lambda _written: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._stores = stores
        self._journal = journal
        self._chunk_tasks = chunk_tasks
        self._tell = tell
        self._sleep = sleep
        self._chunk: list[Done] = []
        self._began_s = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._on_its_way: Future[None] | None = None
        self._other_run = OtherRun(stores, journal)

    def reconcile(self) -> int:
        """Find out what became of the chunk that an earlier process was sending.

        Returns:
            How many of its predictions must be made again.

        Raises:
            LabelStudioError: Label Studio does not answer.
        """
        left = self._journal.left_sending()
        if not left:
            return 0
        held = self._patiently(lambda: self._stores.holders(list(left)))
        self._journal.written(held)
        missing = sorted(left.keys() - held)
        # Label Studio may be about to store them at this very moment.
        self._journal.unsettle([number for number in missing if time.time() - left[number] < LATE_S])
        self._journal.wait_again(missing)
        return len(missing)

    def add(self, done: Done) -> None:
        """Write a prediction, now or with the next ones; waits while the chunk before is still on its way.

        Raises:
            LabelStudioError: Label Studio has not answered for a long time, or refuses this user.
        """
        if not self._chunk:
            self._began_s = time.monotonic()
        self._chunk.append(done)
        is_full = len(self._chunk) >= self._chunk_tasks
        is_large = sum(len(each.prediction["result"]) for each in self._chunk) >= CHUNK_REGIONS
        if is_full or is_large or time.monotonic() - self._began_s > CHUNK_S:
            self._send()

    def close(self) -> None:
        """Write what is left and wait until it is there; raises as ``add``."""
        try:
            if self._chunk:
                self._send()
            self._wait()
        finally:
            self._thread.shutdown(wait=True)

    def abandon(self) -> None:
        """Send nothing more; the journal knows what is not there."""
        self._chunk = []
        self._thread.shutdown(wait=True)

    def settle(self) -> int:
        """Remove what was stored twice because an answer got lost.

        Returns:
            How many were removed.

        Raises:
            LabelStudioError: Label Studio does not answer.
        """
        unsettled, removed = self._journal.unsettled(), 0
        for number, sent_at_s in unsettled.items():
            self._sleep(max(0.0, sent_at_s + LATE_S - time.time()))
            removed += self._patiently(lambda number=number: self._stores.remove_copies(number))  # type: ignore[misc]
            self._journal.settled([number])
        return removed

    def _send(self) -> None:
        self._wait()
        chunk, self._chunk = self._chunk, []
        self._on_its_way = self._thread.submit(self._deliver, chunk)

    def _wait(self) -> None:
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            on_its_way.result()

    def _deliver(self, chunk: list[Done]) -> None:
        """Send a chunk until it is there.

        Raises:
            LabelStudioError: It cannot be sent; the journal has it as being sent, for the next process.
        """
        self._journal.sending(chunk)
        chunk = self._not_there(chunk)
        if not chunk:
            return
        for pause_s in (*RETRY_AFTER_S, None):
            try:
                created = self._stores.add({each.task.number: each.prediction for each in chunk})
            except LabelStudioError as fault:
                if pause_s is None or fault.status in _FINAL:
                    raise
                if fault.status is not None and 400 <= fault.status < 500 and fault.status not in _PASSING:
                    self._refused(chunk, fault)
                    return
                logger.warning("%s Trying again in %.0f s.", fault.message, pause_s)
                self._journal.unsettle([each.task.number for each in chunk])
                self._sleep(pause_s)
                chunk = self._not_there(chunk)
                if not chunk:
                    return
                continue
            self._taken(chunk, created)
            return

    def _taken(self, chunk: list[Done], created: int) -> None:
        """Write down what Label Studio took, which may be less than it was given."""
        taken = chunk
        if created < len(chunk):
            held = self._patiently(lambda: self._stores.holders([each.task.number for each in chunk]))
            taken = [each for each in chunk if each.task.number in held]
            for each in chunk:
                if each.task.number not in held:
                    message = "Label Studio did not take the prediction: it does not fit the labelling config."
                    self._journal.failed(each.task.number, "refused", message)
        self._journal.written(each.task.number for each in taken)
        if taken:
            self._other_run.look_again([each.task.number for each in taken])
            self._tell(len(taken))

    def _refused(self, chunk: list[Done], fault: LabelStudioError) -> None:
        """Label Studio refuses a whole chunk for one task, say one that was deleted: find out which."""
        if len(chunk) == 1:
            self._journal.failed(chunk[0].task.number, "refused", fault.message)
            return
        half = len(chunk) // 2
        self._deliver(chunk[:half])
        self._deliver(chunk[half:])

    def _not_there(self, chunk: list[Done]) -> list[Done]:
        """What of a chunk has to be sent, perhaps again; the rest is written down."""
        numbers = [each.task.number for each in chunk]
        try:
            held = self._stores.holders(numbers)
        except LabelStudioError:
            self._journal.unsettle(numbers)
            return chunk  # still out of reach: sending will say so, and copies are removed at the end
        self._other_run.look_at(numbers, held)
        self._journal.written(held)
        if held:
            self._tell(len(held))
        return [each for each in chunk if each.task.number not in held]

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        """What Label Studio says, asked again while it does not answer."""
        for pause_s in RETRY_AFTER_S:
            try:
                return ask()
            except LabelStudioError as fault:
                if fault.status in _FINAL:
                    raise
                logger.warning("%s Trying again in %.0f s.", fault.message, pause_s)
                self._sleep(pause_s)
        return ask()
