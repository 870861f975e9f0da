"""What Label Studio asks of its ML backend, answered: setup, predict, webhook, versions.

Plain objects in, plain objects out: the HTTP server and the ``label-studio-ml`` adapter call the same methods. It does
not know HTTP, nor the model beyond its name and what its answers depend on.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol

from sam3_backend.errors import Unfinished
from sam3_backend.label_studio import predictions, refusals, warming
from sam3_backend.label_studio.predictions import Predictions, number_of
from sam3_backend.label_studio.tasks import PredictRequest, TaskRequest, read_config, read_predict, read_project
from sam3_backend.label_studio.upcoming import OpenTask, annotated_task
from sam3_backend.label_studio.warming import Warmer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sam3_backend.errors import BackendError

logger = logging.getLogger(__name__)

PARALLEL_TASKS = 4
"""Tasks of batches worked on at a time: while one is at the model, the next ones' pictures are downloaded."""
MOST_VERSIONS = 100


class Segments(predictions.Segments, warming.Prepares, Protocol):
    """What answers prompts and looks at pictures: ``segmenter.Segmenter``."""


class Access(warming.Access, Protocol):
    """What knows the Label Studio instances: ``client.LabelStudioAccess``."""

    def learn(self, project: str, hostname: str, access_token: str) -> None:
        """Remember how Label Studio introduced itself for a project."""


class LabelStudioBackend:
    """Answers one or more Label Studio instances. Thread-safe.

    Args:
        segmenter: Answers prompts about pictures.
        access: Finds pictures.
        facts: The loaded model, for the model version.
        count_failure: Told the code of each task's failure, for metrics; a failed task is no failed request.
        observe: Told a stage's name and its seconds, for metrics.
        deadline_s: Seconds after which a request is answered with what is done by then.
        warm_ahead: How many tasks ahead of an open one are looked at in advance.
    """

    def __init__(
        self,
        segmenter: Segments,
        access: Access,
        facts: predictions.ModelFacts,
        count_failure: Callable[[str], None] = lambda _code: None,
        observe: Callable[[str, float], None] = lambda _stage, _seconds: None,
        *,
        deadline_s: float = 90.0,
        warm_ahead: int = 0,
    ) -> None:
        self._access = access
        self._predictions = Predictions(segmenter, access, facts, count_failure, observe)
        self._warmer = Warmer(segmenter, access, warm_ahead)
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(PARALLEL_TASKS, thread_name_prefix="batch")
        self._lock = threading.Lock()
        self._versions: OrderedDict[str, None] = OrderedDict()

    @property
    def base_version(self) -> str:
        """The part of every model version that is the same for all projects."""
        return self._predictions.base_version

    def setup(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """``/setup``: a project connects, or is looked at. Does not wait for the model.

        Raises:
            InvalidRequest: The request lacks something.
            InvalidLabelConfig: The labelling config cannot be used; the message says what to write.
        """
        project, hostname, token = read_project(payload), payload.get("hostname"), payload.get("access_token")
        if project and isinstance(hostname, str) and isinstance(token, str):
            self._access.learn(project, hostname, token)
        version = self._predictions.model_version(read_config(payload.get("schema")))
        with self._lock:
            self._versions[version] = None
            self._versions.move_to_end(version)
            while len(self._versions) > MOST_VERSIONS:
                self._versions.popitem(last=False)
        logger.info("Project %s is set up: %s", number_of(project), version)
        return {"model_version": version}

    def predict(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """``/predict``: one prediction per task, in order, whatever happens to some of them.

        Raises:
            InvalidRequest: The request as a whole cannot be read.
            InvalidLabelConfig: The labelling config cannot be used.
        """
        began = time.monotonic()
        request = read_predict(payload)
        deadline = began + self._deadline_s
        if len(request.tasks) == 1:
            (task,) = request.tasks
            if isinstance(task, TaskRequest) and task.task_id is not None and request.project is not None:
                self._warmer.opened(OpenTask(request.project, task.task_id, request.config))
            answers = [self._predictions.predict(task, request, deadline)]
        else:
            answers = self._predict_batch(request, deadline)
        logger.info(
            "Project %s: %d tasks %s, %d regions, %.0f ms",
            number_of(request.project),
            len(request.tasks),
            "prompted" if request.is_interactive else "predicted by labels",
            sum(len(each["result"]) for each in answers),
            1000 * (time.monotonic() - began),
        )
        return {"results": answers}

    def tell(self, payload: Mapping[str, Any], fault: BackendError) -> dict[str, Any] | None:
        """An answer to ``/predict`` that shows a waiting annotator why it is refused, or None."""
        return refusals.told(payload, fault, self.base_version)

    def webhook(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """``/webhook``: after an annotation the next tasks are looked at; nothing else needs to be done.

        Nothing is trained here, and a changed config comes with the next request.
        """
        logger.debug("Webhook %s", payload.get("action"))
        task = annotated_task(payload)
        if task is not None:
            self._warmer.opened(task)
        return {"status": "ok"}

    def versions(self) -> dict[str, Any]:
        """``/versions``: the model versions given out, the newest first."""
        with self._lock:
            return {"versions": [*reversed(self._versions)] or [self.base_version]}

    def close(self) -> None:
        """Give up what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _predict_batch(self, request: PredictRequest, deadline: float) -> list[dict[str, Any]]:
        """Predict tasks side by side; what is not done at the deadline is answered as unfinished."""
        # Each task takes a copy of the request's context along, so that its log lines name the request.
        futures = [
            self._pool.submit(contextvars.copy_context().run, self._predictions.predict, task, request, deadline)
            for task in request.tasks
        ]
        done, late = wait(futures, timeout=max(0.0, deadline - time.monotonic()))
        for future in late:
            future.cancel()
        if late:
            logger.warning(
                "Project %s: %d of %d tasks were not finished in %.0f s. Retrieve predictions again to go on, or for "
                "the whole project: sam3-backend preannotate --project %s",
                *(number_of(request.project), len(late), len(futures), self._deadline_s, number_of(request.project)),
            )
        unfinished = Unfinished("Not finished in the time Label Studio waits. Retrieve predictions again to go on.")
        return [
            future.result() if future in done else self._predictions.failed(unfinished, request) for future in futures
        ]
