"""One task's prediction: asked of the use case, written in Label Studio's words, or the reason why there is none.

Does not know requests as a whole: how many tasks they have, or when they must be answered.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from sam3_backend.answer import Answer, AnswerOptions
from sam3_backend.errors import BackendError, InvalidRequest, ModelFailed, Superseded
from sam3_backend.label_studio import regions
from sam3_backend.label_studio.newest import NewestRequests
from sam3_backend.label_studio.tasks import labelled_task
from sam3_backend.label_studio.tuning import DEFAULT_MAX_REGIONS, MinArea
from sam3_backend.model.scheduler import Priority, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sam3_backend.images import PictureLocation
    from sam3_backend.label_studio.label_config import LabelConfig
    from sam3_backend.label_studio.tasks import PredictRequest, TaskRequest
    from sam3_backend.label_studio.tuning import Tuning
    from sam3_backend.prompts import PromptSet

logger = logging.getLogger(__name__)

ANSWER_REVISION = 1
"""Raised when the same model, prompts and thresholds begin to give other regions."""


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


class Locates(Protocol):
    """What finds pictures: ``client.LabelStudioAccess``."""

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
    def device(self) -> str:
        """Where it computes: ``cpu``, ``cuda:0`` and so on."""

    @property
    def default_threshold(self) -> float:
        """Least detection score where the labelling config says nothing."""

    @property
    def mask_nms_iou(self) -> float | None:
        """How much two detections may overlap, or None for the official behaviour."""


class Predictions:
    """Predicts tasks. Thread-safe.

    Args:
        segmenter: Answers prompts about pictures.
        access: Finds pictures.
        facts: The loaded model, for the model version.
        count_failure: Told the code of each task's failure, for metrics; a failed task is no failed request.
        observe: Told a stage's name and its seconds, for metrics: ``regions``, masks into what the page draws.
    """

    def __init__(
        self,
        segmenter: Segments,
        access: Locates,
        facts: ModelFacts,
        count_failure: Callable[[str], None],
        observe: Callable[[str, float], None],
    ) -> None:
        self._segmenter = segmenter
        self._access = access
        self._facts = facts
        self._count_failure = count_failure
        self._observe = observe
        self._newest = NewestRequests()

    @property
    def is_on_cpu(self) -> bool:
        """Whether the model computes on the cores that everything else needs, too."""
        return self._facts.device == "cpu"

    @property
    def base_version(self) -> str:
        """The part of every model version that is the same for all projects."""
        return f"sam3-backend/{self._facts.name}:{self._facts.checkpoint_fingerprint}"

    def model_version(self, config: LabelConfig) -> str:
        """Changes exactly when the predictions of a project would: checkpoint, prompts, thresholds, outputs."""
        facts = self._facts
        digest = _digest(ANSWER_REVISION, facts.default_threshold, facts.mask_nms_iou, config.signature)
        return f"{self.base_version}-{digest}"

    def predict(self, task: TaskRequest | InvalidRequest, request: PredictRequest, deadline: float) -> dict[str, Any]:
        """The prediction of one task; one that ends in the reason where there is none.

        Args:
            task: What is asked, or the fault that keeps it from being answered.
            request: The request it is part of.
            deadline: Monotonic seconds after which nobody reads the answer.
        """
        try:
            found = self._regions(task, request, deadline)
        except BackendError as fault:
            level = logging.INFO if isinstance(fault, Superseded) else logging.WARNING
            logger.log(level, "Project %s: %s: %s", number_of(request.project), fault.code, fault.message)
            logger.debug("Cause", exc_info=fault)
            return self.failed(fault, request)
        except Exception:  # one task must not take the others down, whatever happened to it
            logger.exception("Project %s: a task failed", number_of(request.project))
            return self.failed(ModelFailed("Something unexpected happened. See the server's log."), request)
        return regions.prediction(found, self.model_version(request.config))

    def predict_by_labels(self, task: Mapping[str, Any], config: LabelConfig) -> tuple[dict[str, Any], Answer]:
        """The prediction of a task that nobody looks at, and the answer that it was written from.

        Args:
            task: As Label Studio describes it: its number and its data.
            config: Whose labels are looked for.

        Raises:
            BackendError: There is none, and why.
        """
        asked = labelled_task(task, config)
        if not asked.prompt_sets:
            return regions.prediction([], self.model_version(config)), Answer(0, 0, ())
        location = self._access.locate(asked.uri, project=None, task_id=asked.task_id)
        options = _options(config.tuning, asked)
        answer = self._segmenter.answer(location, asked.prompt_sets, options=options, terms=Terms(Priority.BULK))
        return regions.prediction(regions.answer_regions(answer, config), self.model_version(config)), answer

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
            answer = self._segmenter.answer(
                location, task.prompt_sets, options=_options(request.tuning, task), terms=terms
            )
        if answer.left_out:
            logger.warning(
                "Project %s: task %s has %d objects, the best %d are returned (model_max_regions)",
                *(number_of(request.project), task.task_id, len(answer.found) + answer.left_out, len(answer.found)),
            )
        began = time.perf_counter()
        found = regions.answer_regions(answer, request.config)
        self._observe("regions", time.perf_counter() - began)
        if request.is_interactive:
            found += regions.message_regions(request.config, "" if found else _nothing_found(task.prompt_sets, answer))
        return found

    def failed(self, fault: BackendError, request: PredictRequest) -> dict[str, Any]:
        """The prediction of a task that failed: empty, its version ends in the reason, the annotator is told."""
        self._count_failure(fault.code)
        told = regions.message_regions(request.config, fault.message) if request.is_interactive else []
        return regions.prediction(
            told, regions.failed_version(self.model_version(request.config), fault.code, fault.message)
        )


@lru_cache(maxsize=256)
def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def number_of(project: str | None) -> str:
    """A project's number as people know it: its key without the time of its creation."""
    return project.split(".")[0] if project else "?"


def _options(tuning: Tuning, task: TaskRequest) -> AnswerOptions:
    defaults = AnswerOptions()
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
