"""Which interactive requests are still worth an answer.

The page sends all prompts of an object with every new one and uses only the newest answer, but never takes a request
back. A request whose prompts are all among those of a later one for the same task is not worth computing. Two
annotators on one task never get into each other's way: the page gives every prompt a random id of its own.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Task = tuple[str | None, int | None]
    PromptIds = frozenset[str]


class NewestRequests:
    """Knows the requests being answered. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answering: defaultdict[Task, list[PromptIds]] = defaultdict(list)

    @contextmanager
    def answering(
        self, project: str | None, task_id: int | None, prompt_ids: PromptIds
    ) -> Iterator[Callable[[], bool]]:
        """While the block runs, a request is being answered.

        Args:
            project: The project's key.
            task_id: The task prompts were placed on.
            prompt_ids: Ids of the prompt regions; without any nothing is ever superseded.

        Yields:
            Whether the answer is still wanted: no request with all of these prompts has come since.
        """
        task = (project, task_id)
        with self._lock:
            requests = self._answering[task]
            requests.append(prompt_ids)

        def is_wanted() -> bool:
            with self._lock:
                mine = next(at for at, each in enumerate(requests) if each is prompt_ids)
                return not prompt_ids or not any(prompt_ids <= later for later in requests[mine + 1 :])

        try:
            yield is_wanted
        finally:
            with self._lock:
                del requests[next(at for at, each in enumerate(requests) if each is prompt_ids)]
                if not requests:
                    self._answering.pop(task, None)
