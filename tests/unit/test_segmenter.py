"""From a picture and prompts to masks, with a predictor that records what it is asked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sam3_backend.answer import AnswerOptions
from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.errors import InvalidPrompt, ModelBusy, ModelOutOfMemory, Superseded
from sam3_backend.masks import Mask
from sam3_backend.model.scheduler import Priority, Scheduler, Terms
from sam3_backend.prompts import Box, Exemplar, Point, PromptSet
from sam3_backend.segmenter import Segmenter
from tests.contract.colour_predictor import one_by_one

WIDTH_PX, HEIGHT_PX = 200, 100


def square(x: int, y: int, size: int) -> Mask:
    full = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    full[y : y + size, x : x + size] = True
    return Mask.from_array(full)


class RecordingPredictor:
    """Answers texts from a table and clicks with a square; its mask logits count how often they were refined."""

    pace = SimpleNamespace(texts_at_once=1, pictures_at_once=1, clicks_at_once=1)

    def __init__(self, table: dict[str, list[tuple[Mask, float]]] | None = None) -> None:
        self.table = table or {}
        self.encoded: list[str] = []
        self.passes: list[int] = []
        self.segmented: list[dict[str, Any]] = []
        self.detected: list[dict[str, Any]] = []
        self.faults: list[Exception] = []
        self.rooms_made = 0

    def key(self, content_hash: str) -> EmbeddingKey:
        return EmbeddingKey(content_hash, "recording")

    def prepare(self, image: np.ndarray, *, content_hash: str) -> tuple[np.ndarray, str]:
        return image, content_hash

    def encode_each(self, pictures: list[tuple[np.ndarray, str]]) -> list[Embedding]:
        self.encoded += [content_hash for _, content_hash in pictures]
        self.passes.append(len(pictures))
        return [Embedding(self.key(each), image.shape[:2], {"vit": image}) for image, each in pictures]

    @property
    def clicks(self) -> SimpleNamespace:
        return one_by_one(self.segment)

    def make_room(self) -> None:
        self.rooms_made += 1

    def segment(self, embedding: Embedding, *, points: Any, box: Any, mask_logits: Any, **how: Any) -> Any:
        if self.faults:
            raise self.faults.pop()
        refined = 0.0 if mask_logits is None else float(mask_logits[0, 0])
        self.segmented.append({"points": points, "box": box, "refined": refined, **how})
        logits = np.full((1, 2, 2), refined + 1, dtype=np.float32)
        return SimpleNamespace(masks=(square(10, 20, 5),), iou_scores=(0.9,), mask_logits=logits)

    def detect(self, embedding: Embedding, *, text: Any, exemplars: Any, threshold: Any, **how: Any) -> Any:
        self.detected.append({"text": text, "exemplars": exemplars, "threshold": threshold, **how})
        found = [
            SimpleNamespace(mask=mask, box_xyxy_px=mask.box_xyxy_px, detection_score=score)
            for mask, score in self.table.get(text, [])
        ]
        return SimpleNamespace(found=tuple(found), presence_score=1.0)


def segmenter_over(predictor: RecordingPredictor, max_bytes: int = 10**9) -> Segmenter:
    return Segmenter(predictor, Scheduler(), EmbeddingStore(MemoryTier(max_bytes)), Pictures())  # type: ignore[arg-type]


class Pictures:
    """Pictures whose location is their content's name; each is known once it was fetched."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def look(self, name: str) -> Any:
        return SimpleNamespace(content_hash=name, file=None if name in self.known else self.fetch(name))

    def fetch(self, name: str) -> Any:
        self.known.add(name)
        return SimpleNamespace(content_hash=name, decode=lambda: picture(name))


def picture(name: str = "a") -> Any:
    return SimpleNamespace(rgb=np.zeros((HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8), content_hash=name)


def clicks(*xs: float, label: str | None = None) -> PromptSet:
    return PromptSet(points=tuple(Point(x, 0.5) for x in xs), label=label)


def test_a_picture_is_encoded_once_for_all_prompts_and_requests() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    for _ in range(3):
        segmenter.answer_picture(picture(), [clicks(0.1), PromptSet(text="cat")])
    assert predictor.encoded == ["a"]


def test_a_known_picture_is_not_decoded_again() -> None:
    segmenter = segmenter_over(RecordingPredictor())
    segmenter.answer("a", [clicks(0.1)])  # type: ignore[arg-type]
    again = segmenter.answer("a", [clicks(0.2)])  # type: ignore[arg-type]
    assert set(again.timings_ms) == {"download", "embedding", "prompt"}


def test_a_known_picture_whose_embedding_was_dropped_is_fetched_again() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor, max_bytes=0)
    for _ in range(2):
        segmenter.answer("a", [clicks(0.1)])  # type: ignore[arg-type]
    assert predictor.encoded == ["a", "a"]


def test_answers_carry_the_pictures_own_size_and_the_prompts_label() -> None:
    answer = segmenter_over(RecordingPredictor()).answer("anywhere", [clicks(0.1, label="dog")])  # type: ignore[arg-type]
    assert (answer.width_px, answer.height_px) == (WIDTH_PX, HEIGHT_PX)
    (found,) = answer.found
    assert (found.label, found.score, found.score_kind) == ("dog", 0.9, "iou_score")
    assert set(answer.timings_ms) == {"download", "embedding", "decode", "encode", "prompt"}


def test_prompts_reach_the_predictor_in_sub_pixel_picture_coordinates() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    box = Box(0.1, 0.2, 0.305, 0.4)
    segmenter.answer_picture(
        picture(),
        [
            PromptSet(points=(Point(0.1234, 0.5), Point(0.2, 0.25, is_positive=False))),
            PromptSet(box=box),
            PromptSet(text="cat", exemplars=(Exemplar(box, is_positive=False),)),
        ],
        options=AnswerOptions(refine=False, threshold=0.3),
    )
    assert predictor.segmented[0]["points"] == [
        pytest.approx((24.68, 50.0, True)),
        pytest.approx((40.0, 25.0, False)),
    ]
    assert predictor.segmented[1]["box"] == pytest.approx((20.0, 20.0, 61.0, 40.0))
    assert predictor.detected[0]["exemplars"] == [pytest.approx((20.0, 20.0, 61.0, 40.0, False))]
    assert predictor.detected[0]["threshold"] == 0.3


def test_a_further_point_refines_the_mask_before_it() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    segmenter.answer_picture(picture(), [clicks(0.1)])
    segmenter.answer_picture(picture(), [clicks(0.1, 0.2)])
    segmenter.answer_picture(picture(), [clicks(0.1, 0.2, 0.3)])
    assert [call["refined"] for call in predictor.segmented] == [0, 1, 2]


def test_what_is_not_remembered_is_decoded_again_and_gives_the_same_mask() -> None:
    predictor = RecordingPredictor()
    segmenter_over(predictor).answer_picture(picture(), [clicks(0.1, 0.2, 0.3)])
    assert [call["refined"] for call in predictor.segmented] == [0, 1, 2]


def test_points_on_another_object_start_anew() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    segmenter.answer_picture(picture(), [clicks(0.1)])
    segmenter.answer_picture(picture("b"), [clicks(0.1)])
    segmenter.answer_picture(picture(), [clicks(0.7)])
    assert [call["refined"] for call in predictor.segmented] == [0, 0, 0]


def test_a_negative_point_alone_is_refused_with_advice() -> None:
    with pytest.raises(InvalidPrompt, match="Click on the object first"):
        segmenter_over(RecordingPredictor()).answer_picture(
            picture(), [PromptSet(points=(Point(0.5, 0.5, is_positive=False),))]
        )


def test_a_leading_negative_point_waits_for_the_first_positive_one() -> None:
    predictor = RecordingPredictor()
    points = (Point(0.5, 0.5, is_positive=False), Point(0.1, 0.1))
    segmenter_over(predictor).answer_picture(picture(), [PromptSet(points=points)])
    assert [call["refined"] for call in predictor.segmented] == [0]


def test_two_prompts_of_one_label_give_an_object_once() -> None:
    table = {"car": [(square(10, 10, 20), 0.7)], "truck": [(square(11, 10, 20), 0.9), (square(60, 10, 20), 0.6)]}
    segmenter = segmenter_over(RecordingPredictor(table))
    sets = [PromptSet(text=text, label="vehicle") for text in ("car", "truck")]
    answer = segmenter.answer_picture(picture(), sets)
    assert [each.score for each in answer.found] == [0.9, 0.6]


def test_two_labels_may_both_name_one_object() -> None:
    table = {"car": [(square(10, 10, 20), 0.7)], "red": [(square(10, 10, 20), 0.9)]}
    segmenter = segmenter_over(RecordingPredictor(table))
    answer = segmenter.answer_picture(picture(), [PromptSet(text=text, label=text) for text in ("car", "red")])
    assert [each.label for each in answer.found] == ["car", "red"]


def test_what_one_prompt_finds_is_left_as_the_predictor_gave_it() -> None:
    table = {"car": [(square(10, 10, 20), 0.9), (square(10, 10, 20), 0.8)]}
    answer = segmenter_over(RecordingPredictor(table)).answer_picture(picture(), [PromptSet(text="car")])
    assert len(answer.found) == 2


def test_the_best_of_too_many_are_returned_in_the_order_of_the_prompts() -> None:
    table = {
        "a": [(square(0, 0, 9), 0.6), (square(20, 0, 9), 0.5)],
        "b": [(square(40, 0, 9), 0.9), (square(60, 0, 9), 0.4)],
    }
    segmenter = segmenter_over(RecordingPredictor(table))
    sets = [PromptSet(text=text, label=text) for text in ("a", "b")]
    answer = segmenter.answer_picture(picture(), sets, options=AnswerOptions(max_regions=2))
    assert [(each.label, each.score) for each in answer.found] == [("a", 0.6), ("b", 0.9)]


def test_empty_and_too_small_masks_are_left_out() -> None:
    table = {"a": [(Mask.from_array(np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)), 0.9), (square(0, 0, 3), 0.8)]}
    segmenter = segmenter_over(RecordingPredictor(table))
    assert len(segmenter.answer_picture(picture(), [PromptSet(text="a")]).found) == 1
    options = AnswerOptions(min_area_px=10)
    assert segmenter.answer_picture(picture(), [PromptSet(text="a")], options=options).found == ()


def test_the_smallest_object_may_be_a_share_of_the_picture() -> None:
    table = {"a": [(square(0, 0, 20), 0.9), (square(50, 0, 10), 0.8)]}
    answer = segmenter_over(RecordingPredictor(table)).answer_picture(
        picture(), [PromptSet(text="a")], options=AnswerOptions(min_area_fraction=0.01)
    )
    assert [each.mask.area_px for each in answer.found] == [400]


def test_how_many_are_left_out_is_said() -> None:
    table = {"a": [(square(20 * index, 0, 9), 0.9) for index in range(5)]}
    answer = segmenter_over(RecordingPredictor(table)).answer_picture(
        picture(), [PromptSet(text="a")], options=AnswerOptions(max_regions=2)
    )
    assert (len(answer.found), answer.left_out, answer.known) == (2, 3, 0)


def test_an_object_the_asking_person_has_already_makes_room_for_another() -> None:
    table = {"a": [(square(0, 0, 9), 0.9), (square(20, 0, 9), 0.8)]}
    has_the_first = AnswerOptions(max_regions=1, is_known=lambda found: found.mask.origin_xy_px == (0, 0))
    answer = segmenter_over(RecordingPredictor(table)).answer_picture(
        picture(), [PromptSet(text="a")], options=has_the_first
    )
    assert [each.mask.origin_xy_px for each in answer.found] == [(20, 0)]
    assert (answer.left_out, answer.known) == (0, 1)


def test_who_clicks_on_a_known_object_gets_it() -> None:
    options = AnswerOptions(is_known=lambda _found: True)
    assert (
        len(segmenter_over(RecordingPredictor()).answer_picture(picture(), [clicks(0.1)], options=options).found) == 1
    )


def test_a_given_overlap_limit_counts_within_a_prompt_too() -> None:
    table = {"car": [(square(10, 10, 20), 0.9), (square(12, 10, 20), 0.8), (square(60, 10, 20), 0.7)]}
    segmenter = segmenter_over(RecordingPredictor(table))
    for limit, count in ((0.5, 2), (0.95, 3)):
        options = AnswerOptions(nms_iou=limit)
        assert len(segmenter.answer_picture(picture(), [PromptSet(text="car")], options=options).found) == count


def test_mask_threshold_and_multimask_reach_the_predictor() -> None:
    predictor = RecordingPredictor()
    options = AnswerOptions(mask_threshold=0.7, multimask=False)
    segmenter_over(predictor).answer_picture(picture(), [clicks(0.1), PromptSet(text="cat")], options=options)
    assert (predictor.segmented[0]["mask_threshold"], predictor.segmented[0]["multimask"]) == (0.7, False)
    assert predictor.detected[0]["mask_threshold"] == 0.7


def test_masks_remembered_from_another_way_of_asking_are_not_refined() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    segmenter.answer_picture(picture(), [clicks(0.1)])
    segmenter.answer_picture(picture(), [clicks(0.1, 0.2)], options=AnswerOptions(multimask=True))
    assert [call["multimask"] for call in predictor.segmented] == [None, True, True]


def test_a_superseded_prompt_is_not_decoded_but_its_picture_is_encoded_for_the_next_one() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    with pytest.raises(Superseded):
        segmenter.answer_picture(picture(), [clicks(0.1)], terms=Terms(is_wanted=lambda: False))
    assert (predictor.encoded, predictor.segmented) == (["a"], [])


def test_where_memory_runs_out_room_is_made_and_the_call_tried_once_more() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    predictor.faults = [ModelOutOfMemory("full")]
    assert len(segmenter.answer_picture(picture(), [clicks(0.1)]).found) == 1
    assert predictor.rooms_made == 1


def test_where_an_embedding_finds_no_room_on_its_way_from_the_shared_store_it_is_fetched_once_more() -> None:
    class Scarce(EmbeddingStore):
        def find(self, *about: Any) -> Embedding | None:
            return super().find(*about) if "find" in full_once else self._is_full("find")

        def get_or_make(self, *about: Any) -> Embedding:
            return super().get_or_make(*about) if "get_or_make" in full_once else self._is_full("get_or_make")

        def _is_full(self, once: str) -> Any:
            full_once.add(once)
            raise ModelOutOfMemory("full")

    full_once: set[str] = set()
    predictor = RecordingPredictor()
    segmenter = Segmenter(predictor, Scheduler(), Scarce(MemoryTier(10**9)), Pictures())  # type: ignore[arg-type]
    for _ in range(2):  # the second time its content is known, and it is looked for first
        assert len(segmenter.answer("a", [clicks(0.1)]).found) == 1  # type: ignore[arg-type]
    assert full_once == {"find", "get_or_make"}
    assert predictor.rooms_made == 2


def test_memory_that_stays_full_is_said_so_and_the_next_request_is_answered() -> None:
    predictor = RecordingPredictor()
    segmenter = segmenter_over(predictor)
    predictor.faults = [ModelOutOfMemory("full"), ModelOutOfMemory("full")]
    with pytest.raises(ModelOutOfMemory):
        segmenter.answer_picture(picture(), [clicks(0.1)])
    assert len(segmenter.answer_picture(picture(), [clicks(0.1)]).found) == 1


def test_texts_go_through_the_model_together_where_the_device_gains_from_it() -> None:
    class Batching(RecordingPredictor):
        pace = SimpleNamespace(texts_at_once=2, pictures_at_once=1, clicks_at_once=1)

        def detect_each(self, embedding: Embedding, texts: list[str], **how: Any) -> Any:
            batches.append(texts)
            return [self.detect(embedding, text=text, exemplars=None, **how) for text in texts]

    batches: list[list[str]] = []
    predictor = Batching({"a": [(square(0, 0, 9), 0.9)], "c": [(square(50, 0, 9), 0.8)]})
    sets = [*(PromptSet(text=text, label=text) for text in "abc"), clicks(0.1, label="click")]
    answer = segmenter_over(predictor).answer_picture(picture(), sets)
    assert batches == [["a", "b"]]
    assert [(each.label, each.prompt_index) for each in answer.found] == [("a", 0), ("c", 2), ("click", 3)]


def test_texts_that_do_not_fit_together_are_asked_one_by_one() -> None:
    class Crowded(RecordingPredictor):
        pace = SimpleNamespace(texts_at_once=8, pictures_at_once=1, clicks_at_once=1)

        def detect_each(self, embedding: Embedding, texts: list[str], **how: Any) -> Any:
            raise ModelOutOfMemory("full")

    predictor = Crowded({"a": [(square(0, 0, 9), 0.9)], "c": [(square(50, 0, 9), 0.8)]})
    sets = [PromptSet(text=text, label=text) for text in "abc"]
    answer = segmenter_over(predictor).answer_picture(picture(), sets)
    assert predictor.rooms_made == 1
    assert [(each.label, each.prompt_index) for each in answer.found] == [("a", 0), ("c", 2)]


class Crowd:
    """Requests beside each other at one device that is held until all of them wait: who is encoded when."""

    def __init__(self) -> None:
        self.predictor, self.scheduler = RecordingPredictor(), Scheduler()
        self.store = EmbeddingStore(MemoryTier(10**9))
        self.pictures = Pictures()
        self._segmenter = Segmenter(self.predictor, self.scheduler, self.store, self.pictures)  # type: ignore[arg-type]
        self._pool = ThreadPoolExecutor(16)
        self._release, is_held = threading.Event(), threading.Event()
        self._held = self._pool.submit(self.scheduler.run, lambda: (is_held.set(), self._release.wait(10)), Terms())
        assert is_held.wait(10)

    def asks(self, name: str, terms: Terms) -> Future[Any]:
        """Let somebody ask about a picture, one whose content is known already by its location alone.

        Returns once the request waits.
        """
        before = self._waiting()
        if name in self.pictures.known:
            future = self._pool.submit(self._segmenter.answer, name, [clicks(0.1)], terms=terms)  # type: ignore[arg-type]
        else:
            future = self._pool.submit(self._segmenter.answer_picture, picture(name), [clicks(0.1)], terms=terms)
        deadline = time.monotonic() + 10
        while self._waiting() == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return future

    def go(self) -> None:
        """Let the device work."""
        self._release.set()
        self._pool.shutdown()

    def _waiting(self) -> int:
        return self.scheduler.waiting + self.store.statistics().joined


def test_an_annotator_who_opens_the_last_picture_of_a_batch_is_served_next() -> None:
    crowd = Crowd()
    for number in range(8):
        crowd.asks(f"batch {number}", Terms(Priority.BULK))
    answer = crowd.asks("batch 7", Terms(Priority.INTERACTIVE))
    crowd.go()
    assert crowd.predictor.encoded == ["batch 7", *(f"batch {number}" for number in range(7))]
    assert len(answer.result().found) == 1


def test_a_known_picture_that_a_batch_waits_for_is_served_next_and_not_downloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd = Crowd()
    for number in range(3):
        crowd.asks(f"batch {number}", Terms(Priority.BULK))
    crowd.pictures.known.add("batch 2")
    monkeypatch.setattr(crowd.pictures, "fetch", lambda _name: 1 / 0)
    answer = crowd.asks("batch 2", Terms(Priority.INTERACTIVE))
    crowd.go()
    assert len(answer.result().found) == 1
    assert crowd.predictor.encoded == ["batch 2", "batch 0", "batch 1"]


def test_pictures_of_a_batch_are_looked_at_together_where_the_device_gains_from_it() -> None:
    crowd = Crowd()
    crowd.predictor.pace = SimpleNamespace(texts_at_once=1, pictures_at_once=3, clicks_at_once=1)
    asked = [crowd.asks(f"batch {number}", Terms(Priority.BULK)) for number in range(4)]
    crowd.go()
    assert [len(each.result().found) for each in asked] == [1] * 4
    assert crowd.predictor.passes == [3, 1]


def test_a_prompt_nobody_waits_for_any_more_takes_its_picture_from_nobody() -> None:
    crowd, wanted = Crowd(), True
    batch = crowd.asks("a", Terms(Priority.BULK))
    prompt = crowd.asks("a", Terms(Priority.INTERACTIVE, is_wanted=lambda: wanted))
    wanted = False
    crowd.go()
    with pytest.raises(Superseded):
        prompt.result()
    assert len(batch.result().found) == 1
    assert crowd.predictor.encoded == ["a"]


def test_who_asked_first_may_be_gone_when_those_who_joined_are_served() -> None:
    crowd, wanted = Crowd(), True
    deadline = time.monotonic() + 0.3
    first = crowd.asks("a", Terms(Priority.BULK, is_wanted=lambda: wanted, deadline=deadline))
    joined = crowd.asks("a", Terms(Priority.INTERACTIVE))
    wanted = False
    time.sleep(max(0.0, deadline - time.monotonic()))
    crowd.go()
    with pytest.raises((Superseded, ModelBusy)):
        first.result()
    assert len(joined.result().found) == 1


def test_nobody_waits_for_a_picture_longer_than_for_a_prompt() -> None:
    crowd = Crowd()
    crowd.asks("a", Terms(Priority.WARM))
    joined = crowd.asks("a", Terms(deadline=time.monotonic() + 0.05))
    first = crowd.asks("b", Terms(deadline=time.monotonic() + 0.05))
    for late in (joined, first):
        with pytest.raises(ModelBusy, match="too busy"):
            late.result(10)
    crowd.go()
    assert crowd.predictor.encoded == ["a"]
