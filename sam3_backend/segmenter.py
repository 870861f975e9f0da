"""The use case: a picture and prompts in, scored masks out.

Everything that wants masks comes through here: the labelling page, bulk runs, the command line. It does not know
Label Studio, HTTP, where embeddings are kept, or what the model looks like inside.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from sam3_backend.answer import Answer, AnswerOptions, Timings, choose
from sam3_backend.embeddings.refinement_store import RefinementStore
from sam3_backend.errors import InvalidPrompt, ModelOutOfMemory
from sam3_backend.masks import ScoredMask
from sam3_backend.model.scheduler import SharedTerms, Terms, Together
from sam3_backend.prompts import PromptSet, asked_together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from sam3_backend.embeddings.embedding import Embedding
    from sam3_backend.embeddings.store import EmbeddingStore
    from sam3_backend.images import Picture, PictureFile, PictureLocation, Sighting
    from sam3_backend.model.answers import Detections, Segmentation
    from sam3_backend.model.predictor import Predictor
    from sam3_backend.model.scheduler import Scheduler

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

INTERACTIVE = Terms()
"""Somebody waits for the answer."""


class PictureSource(Protocol):
    """What knows pictures by their locations: ``images.KnownPictures``."""

    def look(self, location: PictureLocation) -> Sighting:
        """Say what stands behind a location, fetching it only where that cannot be said otherwise."""

    def fetch(self, location: PictureLocation) -> PictureFile:
        """Fetch a picture without making its pixels."""


class Segmenter:
    """Answers prompts about pictures. Thread-safe; keeps nothing of one request that another could notice.

    Args:
        predictor: The loaded model.
        scheduler: Owns the device the model is on.
        store: Where embeddings are found.
        pictures: Fetches pictures by location.
        observe: Called with a stage's name and its seconds, for metrics.
        refinements: Where the mask logits before a further point are found; None to keep them in this process alone.
    """

    def __init__(
        self,
        predictor: Predictor,
        scheduler: Scheduler,
        store: EmbeddingStore,
        pictures: PictureSource,
        observe: Callable[[str, float], None] = lambda _stage, _seconds: None,
        refinements: RefinementStore | None = None,
    ) -> None:
        self._predictor = predictor
        self._scheduler = scheduler
        self._store = store
        self._pictures = pictures
        self._observe = observe
        self._refinements = refinements or RefinementStore()
        self._encodes = Together(predictor.encode_each, lambda: predictor.pace.pictures_at_once)
        self._clicks = Together(predictor.clicks.answer, lambda: predictor.pace.clicks_at_once)

    def answer(
        self,
        location: PictureLocation,
        prompt_sets: Sequence[PromptSet],
        *,
        options: AnswerOptions | None = None,
        terms: Terms = INTERACTIVE,
    ) -> Answer:
        """Fetch a picture and answer every prompt set about it.

        Args:
            location: Where the picture is.
            prompt_sets: Questions; the answers come in their order.
            options: How the answer is chosen; None for the defaults.
            terms: On what terms its model calls wait for the device.

        Raises:
            ImageError: The picture cannot be had or read.
            InvalidPrompt: A prompt cannot be answered.
            ModelError: The model failed or has no room.
        """
        timings = Timings(self._observe)
        embedding = self._embedding_of(location, terms, timings)
        return self._answer(embedding, prompt_sets, options or AnswerOptions(), terms, timings)

    def prepare(self, location: PictureLocation, terms: Terms) -> None:
        """Have a picture's embedding ready before anybody asks; raises as ``answer``."""
        self._embedding_of(location, terms, Timings(self._observe))

    def answer_picture(
        self,
        picture: Picture,
        prompt_sets: Sequence[PromptSet],
        *,
        options: AnswerOptions | None = None,
        terms: Terms = INTERACTIVE,
    ) -> Answer:
        """Answer every prompt set about a picture at hand; see ``answer``."""
        timings = Timings(self._observe)
        embedding = self._embedding(picture.content_hash, lambda: picture, terms, timings)
        return self._answer(embedding, prompt_sets, options or AnswerOptions(), terms, timings)

    def _answer(
        self,
        embedding: Embedding,
        prompt_sets: Sequence[PromptSet],
        options: AnswerOptions,
        terms: Terms,
        timings: Timings,
    ) -> Answer:
        found: list[ScoredMask] = []
        with timings.stage("prompt"):
            index = 0
            for group in asked_together(prompt_sets, self._predictor.pace.texts_at_once):
                ask = self._ask_concepts if group[0].asks_for_concept else self._ask_object
                for answer in ask(embedding, group, options, terms):
                    found += [replace(each, prompt_index=index) for each in answer]
                    index += 1
        height_px, width_px = embedding.picture_hw
        chosen = choose(found, embedding.picture_hw, options)
        logger.debug("%d prompt sets, %d objects, %s", len(prompt_sets), len(chosen.found), timings.ms)
        return Answer(width_px, height_px, chosen.found, timings.ms, chosen.left_out, chosen.known)

    def _embedding_of(self, location: PictureLocation, terms: Terms, timings: Timings) -> Embedding:
        """The embedding of the picture at a location, which is fetched only where that cannot be avoided."""
        with timings.stage("download"):
            seen = self._pictures.look(location)
        file = seen.file
        if file is None:
            key = self._predictor.key(seen.content_hash)
            with timings.stage("embedding"):
                known = self._with_room(lambda: self._store.find(key, SharedTerms(terms)))
            if known is not None:
                return known
            with timings.stage("download"):
                file = self._pictures.fetch(location)
        return self._embedding(file.content_hash, file.decode, terms, timings)

    def _embedding(self, content_hash: str, decode: Callable[[], Picture], terms: Terms, timings: Timings) -> Embedding:
        """The picture's embedding; its pixels are made only where no tier has it.

        It is made for everybody who waits for this picture: as soon as the most urgent of them asks for, and whatever
        becomes of one request's deadline or prompt.
        """
        shared = SharedTerms(terms)

        def make() -> Embedding:
            with timings.stage("decode"):
                ready = self._predictor.prepare(decode().rgb, content_hash=content_hash)
            with timings.stage("encode"):
                return self._scheduler.run_together(self._encodes, ready, shared)

        with timings.stage("embedding"):
            return self._with_room(lambda: self._store.get_or_make(self._predictor.key(content_hash), make, shared))

    def _ask_concepts(
        self, embedding: Embedding, group: Sequence[PromptSet], options: AnswerOptions, terms: Terms
    ) -> list[list[ScoredMask]]:
        """What each prompt set of a group finds: several plain texts, or one set of any kind."""
        height_px, width_px = embedding.picture_hw
        first = group[0]
        exemplars = [(*each.box.xyxy_px(width_px, height_px), each.is_positive) for each in first.exemplars]

        def detect() -> Sequence[Detections]:
            cut, least = options.mask_threshold, options.threshold
            if len(group) > 1:
                texts = [each.text or "" for each in group]
                return self._predictor.detect_each(embedding, texts, threshold=least, mask_threshold=cut)
            only = self._predictor.detect(
                embedding, text=first.text, exemplars=exemplars or None, threshold=least, mask_threshold=cut
            )
            return [only]

        try:
            answers = self._on_device(detect, terms)
        except ModelOutOfMemory:
            if len(group) == 1:
                raise
            logger.warning("The device has no memory for %d texts at once: asking one by one.", len(group))
            return [self._ask_concepts(embedding, [each], options, terms)[0] for each in group]
        return [
            [
                ScoredMask(each.mask, each.box_xyxy_px, each.detection_score, "detection_score", prompt_set.label)
                for each in answer.found
            ]
            for prompt_set, answer in zip(group, answers, strict=True)
        ]

    def _ask_object(
        self, embedding: Embedding, group: Sequence[PromptSet], options: AnswerOptions, terms: Terms
    ) -> list[list[ScoredMask]]:
        (prompt_set,) = group
        if prompt_set.box is None and not any(point.is_positive for point in prompt_set.points):
            raise InvalidPrompt("Click on the object first: a negative point alone only says what not to take.")
        result = self._segment(embedding, prompt_set, options, terms)
        mask = result.masks[0]
        return [[ScoredMask(mask, mask.box_xyxy_px, result.iou_scores[0], "iou_score", prompt_set.label)]]

    def _segment(
        self, embedding: Embedding, prompt_set: PromptSet, options: AnswerOptions, terms: Terms
    ) -> Segmentation:
        previous = self._mask_logits_before(embedding, prompt_set, options, terms) if options.refine else None
        height_px, width_px = embedding.picture_hw
        points = [(*each.xy_px(width_px, height_px), each.is_positive) for each in prompt_set.points]
        box = prompt_set.box.xyxy_px(width_px, height_px) if prompt_set.box else None

        asked = (points or None, box, previous, options.multimask, options.mask_threshold)
        click = self._predictor.clicks.question(embedding, *asked)
        result = self._with_room(lambda: self._scheduler.run_together(self._clicks, click, terms))
        if options.refine:
            self._refinements.put(embedding.key, prompt_set, result.mask_logits[0], options.multimask)
        return result

    def _mask_logits_before(
        self, embedding: Embedding, prompt_set: PromptSet, options: AnswerOptions, terms: Terms
    ) -> npt.NDArray[np.float32] | None:
        """Mask logits as they were before the last point was placed; None where it was the first.

        What no tier remembers is decoded again, so that an answer never depends on what happens to be remembered.
        """
        earlier = _without_last_point(prompt_set)
        if earlier is None:
            return None
        return self._refinements.get_or_make(
            embedding.key,
            earlier,
            options.multimask,
            lambda: self._segment(embedding, earlier, options, terms).mask_logits[0],
        )

    def _on_device(self, call: Callable[[], Result], terms: Terms) -> Result:
        """Make a model call in its turn."""
        return self._with_room(lambda: self._scheduler.run(call, terms))

    def _with_room(self, ask: Callable[[], Result]) -> Result:
        """Ask the device; where its memory runs out, make room and try once more."""
        try:
            return ask()
        except ModelOutOfMemory:
            logger.warning("The device is out of memory: dropping its embeddings and trying once more.")
            self._store.make_room()
            self._predictor.make_room()
            return ask()


def _without_last_point(prompt_set: PromptSet) -> PromptSet | None:
    """The prompt set as it was one point earlier, or None where it then asked for nothing."""
    if not prompt_set.points:
        return None
    points = prompt_set.points[:-1]
    if prompt_set.box is None and not any(point.is_positive for point in points):
        return None
    return replace(prompt_set, points=points)
