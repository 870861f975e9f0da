"""What Label Studio asks of its ML backend, answered: setup, predict, webhook, versions.

Plain objects in, plain objects out: the HTTP server and the ``label-studio-ml`` adapter call the same methods. It does
not know HTTP, nor the model beyond its name and what its answers depend on.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol

from sam3_backend.answer import AnswerOptions
from sam3_backend.errors import BackendError, InvalidRequest, ModelFailed, Unfinished
from sam3_backend.label_studio import regions
from sam3_backend.label_studio.newest import NewestRequests
from sam3_backend.label_studio.tasks import PredictRequest, TaskRequest, read_config, read_predict, read_project
from sam3_backend.label_studio.tuning import DEFAULT_MAX_REGIONS, MinArea
from sam3_backend.model.scheduler import Priority, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sam3_backend.answer import Answer
    from sam3_backend.images import PictureLocation
    from sam3_backend.label_studio.label_config import LabelConfig
    from sam3_backend.prompts import PromptSet

logger = logging.getLogger(__name__)

ANSWER_REVISION = 1
"""Raised when the same model, prompts and thresholds begin to give other regions."""
PARALLEL_TASKS = 4
"""Tasks of batches worked on at a time: while one is at the model, the next ones' pictures are downloaded."""
MOST_VERSIONS = 100


class Segments(Protocol):
    """What answers prompts: ``segmenter.Segmenter``."""

    def answer(
        self,
        location: PictureLocation,
        prompt_sets: Sequence[PromptSet],
        *,
        options: AnswerOptions,
        terms: Terms,
    ) -> Answer:
        """Fetch a picture and answer every prompt set about it."""


class Access(Protocol):
    """What knows the Label Studio instances: ``client.LabelStudioAccess``."""

    def learn(self, project: str, hostname: str, access_token: str) -> None:
        """Remember how Label Studio introduced itself for a project."""

    def locate(self, uri: str, *, project: str | None, task_id: int | None) -> PictureLocation:
        """Say where to fetch a task's picture."""


class ModelFacts(Protocol):
    """What a prediction depends on besides its prompts: ``model.predictor.Predictor`` has it."""

    @property
    def name(self) -> str:
        """The checkpoint's name, for people."""

    @property
    def checkpoint_fingerprint(self) -> str:
        """Short hex of weights and config."""

    @property
    def default_threshold(self) -> float:
        """Least detection score where the labelling config says nothing."""

    @property
    def mask_nms_iou(self) -> float | None:
        """How much two detections may overlap, or None for the official behaviour."""


class LabelStudioBackend:
    """Answers one or more Label Studio instances. Thread-safe.

    Args:
        segmenter: Answers prompts about pictures.
        access: Finds pictures.
        facts: The loaded model, for the model version.
        count_failure: Told the code of each task's failure, for metrics; a failed task is no failed request.
        deadline_s: Seconds after which a request is answered with what is done by then.
    """

    def __init__(
        self,
        segmenter: Segments,
        access: Access,
        facts: ModelFacts,
        count_failure: Callable[[str], None] = lambda _code: None,
        deadline_s: float = 90.0,
    ) -> None:
        self._segmenter = segmenter
        self._access = access
        self._facts = facts
        self._count_failure = count_failure
        self._deadline_s = deadline_s
        self._newest = NewestRequests()
        self._pool = ThreadPoolExecutor(PARALLEL_TASKS, thread_name_prefix="batch")
        self._lock = threading.Lock()
        self._versions: OrderedDict[str, None] = OrderedDict()

    @property
    def base_version(self) -> str:
        """The part of every model version that is the same for all projects."""
        return f"sam3-backend/{self._facts.name}:{self._facts.checkpoint_fingerprint}"

    def model_version(self, config: LabelConfig) -> str:
        """Changes exactly when the predictions of a project would: checkpoint, prompts, thresholds, outputs."""
        parts = [ANSWER_REVISION, self._facts.default_threshold, self._facts.mask_nms_iou, config.signature]
        return f"{self.base_version}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]}"

    def setup(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """``/setup``: a project connects, or is looked at. Does not wait for the model.

        Raises:
            InvalidRequest: The request lacks something.
            InvalidLabelConfig: The labelling config cannot be used; the message says what to write.
        """
        project, hostname, token = read_project(payload), payload.get("hostname"), payload.get("access_token")
        if project and isinstance(hostname, str) and isinstance(token, str):
            self._access.learn(project, hostname, token)
        version = self.model_version(read_config(payload.get("schema")))
        with self._lock:
            self._versions[version] = None
            self._versions.move_to_end(version)
            while len(self._versions) > MOST_VERSIONS:
                self._versions.popitem(last=False)
        logger.info("Project %s is set up: %s", _number_of(project), version)
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
            predictions = [self._predict_task(request.tasks[0], request, deadline)]
        else:
            predictions = self._predict_batch(request, deadline)
        logger.info(
            "Project %s: %d tasks %s, %d regions, %.0f ms",
            _number_of(request.project),
            len(request.tasks),
            "prompted" if request.is_interactive else "predicted by labels",
            sum(len(each["result"]) for each in predictions),
            1000 * (time.monotonic() - began),
        )
        return {"results": predictions}

    def webhook(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """``/webhook``: nothing is trained here, and a changed config comes with the next request."""
        logger.debug("Webhook %s", payload.get("action"))
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
            self._pool.submit(contextvars.copy_context().run, self._predict_task, task, request, deadline)
            for task in request.tasks
        ]
        done, late = wait(futures, timeout=max(0.0, deadline - time.monotonic()))
        for future in late:
            future.cancel()
        if late:
            logger.warning(
                "Project %s: %d of %d tasks were not finished in %.0f s. Retrieve predictions again to go on.",
                *(_number_of(request.project), len(late), len(futures), self._deadline_s),
            )
        unfinished = Unfinished("Not finished in the time Label Studio waits. Retrieve predictions again to go on.")
        version = self.model_version(request.config)
        return [future.result() if future in done else self._failed(unfinished, version, request) for future in futures]

    def _predict_task(
        self, task: TaskRequest | InvalidRequest, request: PredictRequest, deadline: float
    ) -> dict[str, Any]:
        version = self.model_version(request.config)
        try:
            found = self._regions(task, request, deadline)
        except BackendError as fault:
            logger.warning("Project %s: %s: %s", _number_of(request.project), fault.code, fault.message)
            logger.debug("Cause", exc_info=fault)
            return self._failed(fault, version, request)
        except Exception:  # one task must not take the others down, whatever happened to it
            logger.exception("Project %s: a task failed", _number_of(request.project))
            return self._failed(ModelFailed("Something unexpected happened. See the server's log."), version, request)
        return regions.prediction(found, version)

    def _regions(
        self, task: TaskRequest | InvalidRequest, request: PredictRequest, deadline: float
    ) -> list[regions.Region]:
        if isinstance(task, InvalidRequest):
            raise task
        if not task.prompt_sets:
            return []
        location = self._access.locate(task.uri, project=request.project, task_id=task.task_id)
        with self._newest.answering(request.project, task.task_id, request.prompt_ids) as is_wanted:
            terms = Terms(_priority(request), deadline, is_wanted)
            answer = self._segmenter.answer(location, task.prompt_sets, options=_options(request, task), terms=terms)
        if answer.left_out:
            logger.warning(
                "Project %s: task %s has %d objects, the best %d are returned (model_max_regions)",
                *(_number_of(request.project), task.task_id, len(answer.found) + answer.left_out, len(answer.found)),
            )
        found = regions.answer_regions(answer, request.config)
        if request.is_interactive:
            found += regions.message_regions(request.config, "" if found else _nothing_found(task.prompt_sets, answer))
        return found

    def _failed(self, fault: BackendError, version: str, request: PredictRequest) -> dict[str, Any]:
        self._count_failure(fault.code)
        told = regions.message_regions(request.config, fault.message) if request.is_interactive else []
        return regions.prediction(told, regions.failed_version(version, fault.code, fault.message))


def _options(request: PredictRequest, task: TaskRequest) -> AnswerOptions:
    tuning, defaults = request.tuning, AnswerOptions()
    smallest = tuning.min_area or MinArea()
    return AnswerOptions(
        threshold=tuning.score_threshold,
        mask_threshold=defaults.mask_threshold if tuning.mask_threshold is None else tuning.mask_threshold,
        nms_iou=tuning.nms_iou,
        max_regions=tuning.max_regions or DEFAULT_MAX_REGIONS,
        min_area_px=smallest.px,
        min_area_fraction=smallest.fraction,
        multimask=tuning.multimask,
        is_known=task.accepted.has if len(task.accepted) else None,
    )


def _priority(request: PredictRequest) -> Priority:
    if request.is_interactive:
        return Priority.INTERACTIVE
    # Opening a task and predicting a selection look alike; only the first always comes alone.
    return Priority.TASK_OPEN if len(request.tasks) == 1 else Priority.BULK


def _nothing_found(prompt_sets: Sequence[PromptSet], answer: Answer) -> str:
    texts = ", ".join(f'"{each.text}"' for each in prompt_sets if each.text)
    if answer.known:
        return f"Nothing new found{f' for {texts}' if texts else ''}: you have accepted all there is already."
    if texts:
        return f"Nothing found for {texts}. Try other words, or click on the object."
    if any(each.exemplars for each in prompt_sets):
        return "Nothing like it found. Draw a box around another one, or say in words what to look for."
    return "No object found there. Add a point, or draw a box around the object."


def _number_of(project: str | None) -> str:
    """A project's number as people know it: its key without the time of its creation."""
    return project.split(".")[0] if project else "?"
