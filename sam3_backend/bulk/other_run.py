"""Another run that stores the same predictions in the same project at the same time, on whatever machine.

A chunk leaves only after Label Studio was asked what of it is there already, so two runs can double no more than what
both send at the same moment. Where there are signs of that, what was sent around then is looked at again at the end.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sam3_backend.errors import LabelStudioError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_backend.bulk.journal import Journal
    from sam3_backend.bulk.writer import Stores

logger = logging.getLogger(__name__)

AROUND_S = 120.0
"""What was sent this long before and is sent this long after a sign is looked at again."""
SIGN_SHARE = 0.1
"""Annotators who open tasks store single predictions, too; a run stores chunks."""


class OtherRun:
    """Looks for signs of one.

    Args:
        stores: Where predictions go.
        journal: This run's.
    """

    def __init__(self, stores: Stores, journal: Journal) -> None:
        self._stores = stores
        self._journal = journal
        self._until_s = 0.0

    def look_at(self, chunk: Sequence[int], held: set[int]) -> None:
        """Look at tasks that are about to be sent.

        Args:
            chunk: Their numbers.
            held: Those that hold their prediction by now.
        """
        if len(held) < SIGN_SHARE * len(chunk) or not held:
            return
        if len(held - self._journal.unsettled().keys()) >= SIGN_SHARE * len(chunk):  # the others are this run's own
            self._is_there()

    def look_again(self, chunk: Sequence[int]) -> None:
        """Look at tasks that were just stored."""
        if time.time() < self._until_s:
            self._journal.unsettle(chunk)
        if chunk[-1] in self._journal.unsettled():
            return  # looked at again at the end
        try:
            if self._stores.remove_copies(chunk[-1]):
                self._is_there()
        except LabelStudioError as fault:
            logger.warning("%s", fault.message)
            self._journal.unsettle(chunk[-1:])

    def _is_there(self) -> None:
        if not self._until_s:
            logger.warning(
                "Predictions of the same model version are being stored in this project by somebody else, too. None is "
                "lost or stays there twice, but if that is another run, one of the two works for nothing: stop one."
            )
        self._until_s = time.time() + AROUND_S
        self._journal.unsettle_since(time.time() - AROUND_S)
