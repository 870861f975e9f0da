"""Looks at the pictures that annotators will open next, while the device has nothing better to do.

One thread, one picture at a time, at the lowest priority: a guess never delays a question. Does not know the model nor
where embeddings are kept.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Protocol

from sam3_backend.errors import BackendError
from sam3_backend.label_studio.tasks import picture_uri
from sam3_backend.label_studio.upcoming import upcoming_tasks
from sam3_backend.model.scheduler import Priority, Terms

if TYPE_CHECKING:
    from sam3_backend.images import PictureLocation
    from sam3_backend.label_studio.api import LabelStudioApi
    from sam3_backend.label_studio.upcoming import OpenTask

logger = logging.getLogger(__name__)

MOST_WAITING = 32
"""Tasks whose successors are to be looked up; what comes on top is dropped."""


class Prepares(Protocol):
    """What looks at pictures: ``segmenter.Segmenter``."""

    def prepare(self, location: PictureLocation, terms: Terms) -> None:
        """Have a picture's embedding ready."""


class Access(Protocol):
    """What knows Label Studio: ``client.LabelStudioAccess``."""

    def api(self, project: str | None) -> LabelStudioApi:
        """The API of the Label Studio that a project belongs to."""

    def locate(self, uri: str, *, project: str | None, task_id: int | None) -> PictureLocation:
        """Say where to fetch a task's picture."""


class Warmer:
    """Prepares the pictures of upcoming tasks in the background.

    Args:
        segmenter: Looks at pictures.
        access: Finds tasks and pictures.
        ahead: How many tasks ahead are prepared; 0 switches all of this off.
    """

    def __init__(self, segmenter: Prepares, access: Access, ahead: int) -> None:
        self._segmenter = segmenter
        self._access = access
        self._ahead = ahead
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}
        self._waiting: queue.Queue[OpenTask] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None

    def opened(self, task: OpenTask) -> None:
        """Somebody works on a task. Returns at once; saying it again costs nothing."""
        if self._ahead == 0:
            return
        with self._lock:
            if self._last.get(task.project) == task.task_id:
                return
            try:
                self._waiting.put_nowait(task)
            except queue.Full:
                return
            self._last[task.project] = task.task_id
            if self._thread is None:
                # Not before it is needed: a server forks after it was put together.
                self._thread = threading.Thread(target=self._work, name="warmer", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Return once everything said so far has been prepared."""
        self._waiting.join()

    def _work(self) -> None:
        while True:
            task = self._waiting.get()
            try:
                self._prepare_behind(task)
            except BackendError as fault:  # a guess that cannot be made bothers nobody
                logger.debug("Nothing is prepared behind task %d: %s", task.task_id, fault)
            except Exception:
                logger.exception("Preparing what comes behind task %d failed", task.task_id)
            finally:
                self._waiting.task_done()

    def _prepare_behind(self, task: OpenTask) -> None:
        for each in upcoming_tasks(self._access.api(task.project), task, self._ahead):
            try:
                uri = picture_uri(each, task.config)
                location = self._access.locate(uri, project=task.project, task_id=each["id"])
                self._segmenter.prepare(location, Terms(Priority.WARM))
            except BackendError as fault:  # whoever opens that task will be told
                logger.debug("Task %d is not prepared: %s", each["id"], fault)
