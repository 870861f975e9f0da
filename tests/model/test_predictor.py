"""The public API on the demo checkpoint: real masks of drawn shapes, and clear words for what cannot be meant."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sam3_backend import Predictor
from sam3_backend.errors import InvalidPrompt, ModelFailed, ModelOutOfMemory
from sam3_backend.model.postprocessing import to_mask

if TYPE_CHECKING:
    from sam3_backend.embeddings.embedding import Embedding
    from sam3_backend.masks import Mask

WIDTH, HEIGHT = 800, 600
CIRCLE_BOX = (110, 110, 291, 291)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A picture (H, W, 3) with three shapes, read-only, and the pixels of each."""
    shapes = {name: np.zeros((HEIGHT, WIDTH), np.uint8) for name in ("red circle", "blue square", "green triangle")}
    cv2.circle(shapes["red circle"], (200, 200), 90, 1, -1)
    cv2.rectangle(shapes["blue square"], (450, 100), (650, 300), 1, -1)
    cv2.fillPoly(shapes["green triangle"], [np.array([[300, 560], [420, 360], [540, 560]])], 1)
    picture = np.full((HEIGHT, WIDTH, 3), (200, 210, 190), np.uint8)
    for name, colour in zip(shapes, [(220, 30, 30), (30, 60, 220), (30, 160, 50)], strict=True):
        picture[shapes[name] > 0] = colour
    picture.setflags(write=False)
    return picture, {name: mask > 0 for name, mask in shapes.items()}


@pytest.fixture(scope="module")
def embedding(demo: Predictor, scene: tuple[np.ndarray, Any]) -> Embedding:
    return demo.encode(scene[0])


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float(np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth))


class TestClicks:
    @pytest.mark.parametrize(
        ("name", "xy"), [("red circle", (200, 200)), ("blue square", (550, 200)), ("green triangle", (420, 500))]
    )
    def test_a_click_draws_the_shape_under_it(
        self, demo: Predictor, embedding: Embedding, scene: Any, name: str, xy: tuple[int, int]
    ) -> None:
        answer = demo.segment(embedding, points=[xy])
        assert len(answer.masks) == 3
        assert list(answer.iou_scores) == sorted(answer.iou_scores, reverse=True)
        assert _iou(answer.masks[0].to_array(), scene[1][name]) > 0.85

    def test_a_box_draws_the_shape_in_it(self, demo: Predictor, embedding: Embedding, scene: Any) -> None:
        answer = demo.segment(embedding, box=CIRCLE_BOX)
        assert len(answer.masks) == 1
        assert _iou(answer.masks[0].to_array(), scene[1]["red circle"]) > 0.85

    def test_logits_can_be_handed_back_to_refine(self, demo: Predictor, embedding: Embedding, scene: Any) -> None:
        first = demo.segment(embedding, points=[(200, 200)])
        side = demo.low_res_size_px
        assert first.mask_logits.shape == (3, side, side)
        assert first.mask_logits.dtype == np.float32
        assert np.abs(first.mask_logits).max() <= 32
        clicks = [(200, 200, 1), (500, 200, 0)]
        refined = demo.segment(embedding, points=clicks, mask_logits=first.mask_logits[0])
        assert len(refined.masks) == 1
        assert _iou(refined.masks[0].to_array(), scene[1]["red circle"]) > 0.85
        assert not np.array_equal(refined.mask_logits, demo.segment(embedding, points=clicks).mask_logits)

    def test_clicks_on_several_pictures_are_answered_together_like_one_by_one(
        self, demo: Predictor, embedding: Embedding, scene: Any
    ) -> None:
        turned = demo.encode(np.ascontiguousarray(scene[0][:, ::-1]))
        logits = demo.segment(embedding, points=[(550, 200)]).mask_logits[0]
        asked: list[tuple[Any, ...]] = [
            (embedding, [(200, 200)], None, None, None, 0.5),
            (embedding, None, CIRCLE_BOX, None, None, 0.5),
            (turned, [(WIDTH - 200, 200)], None, None, None, 0.5),
            (embedding, [(550, 200)], None, logits, None, 0.5),
            (turned, [(WIDTH - 420, 500)], None, None, None, 0.5),
        ]
        questions = [demo.clicks.question(*each) for each in asked]
        together = demo.clicks.answer(questions)
        for question, answer in zip(questions, together, strict=True):
            (alone,) = demo.clicks.answer([question])
            assert answer.iou_scores == pytest.approx(alone.iou_scores, abs=1e-4)
            np.testing.assert_allclose(answer.mask_logits, alone.mask_logits, atol=1e-3)
        circle = scene[1]["red circle"]
        assert _iou(together[0].masks[0].to_array(), circle) > 0.85
        assert _iou(together[2].masks[0].to_array(), circle[:, ::-1]) > 0.85

    def test_one_mask_can_be_asked_for_a_single_click(self, demo: Predictor, embedding: Embedding) -> None:
        assert len(demo.segment(embedding, points=[(200, 200)], multimask=False).masks) == 1

    def test_a_fraction_of_a_pixel_matters(self, demo: Predictor, embedding: Embedding) -> None:
        here = demo.segment(embedding, points=[(200.0, 200.0)]).mask_logits
        there = demo.segment(embedding, points=[(200.4, 200.0)]).mask_logits
        assert not np.array_equal(here, there)

    def test_the_pictures_corners_are_inside(self, demo: Predictor, embedding: Embedding) -> None:
        demo.segment(embedding, points=[(0, 0), (WIDTH, HEIGHT)])
        demo.segment(embedding, box=(0, 0, WIDTH, HEIGHT))


class TestConcepts:
    @pytest.mark.parametrize("text", ["red circle", "green triangle"])
    def test_a_text_finds_the_shape_it_names(
        self, demo: Predictor, embedding: Embedding, scene: Any, text: str
    ) -> None:
        answer = demo.detect(embedding, text=text, threshold=0.3)
        assert answer.presence_score > 0.5
        best = answer.found[0]
        assert _iou(best.mask.to_array(), scene[1][text]) > 0.85
        x1, y1, x2, y2 = best.box_xyxy_px
        assert 0 <= x1 < x2 <= WIDTH
        assert 0 <= y1 < y2 <= HEIGHT

    def test_answers_come_best_first_and_above_the_threshold(self, demo: Predictor, embedding: Embedding) -> None:
        scores = [each.detection_score for each in demo.detect(embedding, text="shape", threshold=0.1).found]
        assert scores == sorted(scores, reverse=True)
        assert scores
        assert min(scores) > 0.1

    def test_an_absent_concept_gives_nothing_and_draws_no_mask(
        self, demo: Predictor, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(demo._network, "mask_logits", None)  # calling it would fail
        assert demo.detect(embedding, text="purple star", threshold=0.5).found == ()

    def test_pictures_seen_together_are_seen_as_one_by_one_and_hold_no_memory_of_each_other(
        self, demo: Predictor, scene: tuple[np.ndarray, dict[str, np.ndarray]]
    ) -> None:
        pictures = [demo.prepare(each) for each in (scene[0], np.ascontiguousarray(scene[0][::-1, : WIDTH // 2]))]
        for picture, together in zip(pictures, demo.encode_each(pictures), strict=True):
            alone = demo.encode(picture)
            assert (together.key, together.picture_hw) == (alone.key, alone.picture_hw)
            assert together.tensors.keys() == alone.tensors.keys()
            for name, tensor in alone.tensors.items():
                torch.testing.assert_close(together.tensors[name], tensor, atol=1e-4, rtol=1e-4)
                assert together.tensors[name].untyped_storage().nbytes() == tensor.numel() * tensor.element_size()

    def test_several_texts_are_answered_like_one_by_one(self, demo: Predictor, embedding: Embedding) -> None:
        texts = ["red circle", "shape", "a small purple star"]
        together = demo.detect_each(embedding, texts, threshold=0.2)
        for text, answer in zip(texts, together, strict=True):
            alone = demo.detect(embedding, text=text, threshold=0.2)
            scores = [each.detection_score for each in alone.found]
            assert [each.detection_score for each in answer.found] == pytest.approx(scores, abs=1e-5)
            assert answer.presence_score == pytest.approx(alone.presence_score, abs=1e-5)
            for ours, theirs in zip(answer.found, alone.found, strict=True):
                assert ours.mask.iou(theirs.mask) > 0.999

    def test_prompts_of_different_lengths_can_share_a_batch(self, demo: Predictor, embedding: Embedding) -> None:
        from sam3_backend.model.concepts import _padded

        features = demo.concepts.picture_features(embedding)
        texts = ["red circle", "a blue square on the left", "shape"]
        with torch.inference_mode():
            prompts = [torch.cat([demo.concepts.text_features(text), features.cls_token], dim=1) for text in texts]
            batched = demo._network.detect(features, *_padded(prompts))
            for index, prompt in enumerate(prompts):
                alone = demo._network.detect(features, prompt)
                assert torch.allclose(batched.logits[index], alone.logits[0], atol=1e-4)
                assert torch.allclose(batched.boxes_xyxy[index], alone.boxes_xyxy[0], atol=1e-5)
                chosen = torch.arange(3)
                ours = demo._network.mask_logits(features, batched, index, chosen)
                assert torch.allclose(ours, demo._network.mask_logits(features, alone, 0, chosen), atol=1e-3)

    def test_exemplars_change_the_answer(self, demo: Predictor, embedding: Embedding) -> None:
        text = demo.detect(embedding, text="shape", threshold=0.0)
        both = demo.detect(embedding, text="shape", exemplars=[CIRCLE_BOX], threshold=0.0)
        negative = demo.detect(embedding, text="shape", exemplars=[(*CIRCLE_BOX, 0)], threshold=0.0)
        assert len({text.presence_score, both.presence_score, negative.presence_score}) == 3

    def test_exemplars_may_stand_alone(self, demo: Predictor, embedding: Embedding) -> None:
        demo.detect(embedding, exemplars=np.array([CIRCLE_BOX]))

    def test_case_and_blanks_do_not_matter(self, demo: Predictor, embedding: Embedding) -> None:
        one = demo.detect(embedding, text="red circle", threshold=0.0)
        other = demo.detect(embedding, text=" Red  circle\n", threshold=0.0)
        assert one.presence_score == other.presence_score


class TestEmbeddings:
    def test_a_cached_embedding_gives_the_same_mask(self, demo: Predictor, embedding: Embedding, scene: Any) -> None:
        again = demo.encode(scene[0])
        assert again.key == embedding.key
        first, second = (demo.segment(each, points=[(200, 200)]).mask_logits for each in (embedding, again))
        assert np.array_equal(first, second)

    def test_the_detectors_memory_does_not_change_the_answer(self, demo: Predictor, embedding: Embedding) -> None:
        warm = demo.detect(embedding, text="shape", threshold=0.0)
        demo.make_room()
        cold = demo.detect(embedding, text="shape", threshold=0.0)
        assert [each.detection_score for each in warm.found] == [each.detection_score for each in cold.found]

    def test_the_key_is_made_of_content_and_predictor(self, demo: Predictor, scene: Any) -> None:
        assert demo.encode(scene[0], content_hash="abc").key == demo.key("abc")
        assert demo.key("abc").predictor_fingerprint == demo.fingerprint
        half = Predictor.load("demo", device="cpu", dtype="bfloat16")
        assert half.fingerprint != demo.fingerprint
        assert half.checkpoint_fingerprint == demo.checkpoint_fingerprint

    def test_exif_orientation_is_applied(self, demo: Predictor, scene: Any) -> None:
        upright = Image.fromarray(scene[0])
        lying = upright.transpose(Image.Transpose.ROTATE_90)
        lying.getexif()[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
        turned = demo.encode(lying)
        assert turned.picture_hw == (HEIGHT, WIDTH)
        assert turned.key == demo.encode(upright).key

    def test_a_prepared_picture_gives_the_same_embedding(
        self, demo: Predictor, embedding: Embedding, scene: Any
    ) -> None:
        ready = demo.encode(demo.prepare(scene[0]))
        assert ready.key == embedding.key
        assert ready.picture_hw == embedding.picture_hw
        assert torch.equal(ready.tensors["hidden"], embedding.tensors["hidden"])  # type: ignore[arg-type]

    def test_threads_do_not_see_each_others_pictures(self, demo: Predictor, scene: Any) -> None:
        pictures = [np.roll(scene[0], shift, axis=1) for shift in (0, 50, 100, 150)]
        expected = [demo.segment(demo.encode(each), points=[(260, 200)]).mask_logits for each in pictures]
        agreed = [False] * len(pictures)

        def work(index: int) -> None:
            seen = demo.segment(demo.encode(pictures[index]), points=[(260, 200)]).mask_logits
            agreed[index] = np.allclose(seen, expected[index], atol=1e-3)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(pictures))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(agreed)


def test_masks_are_drawn_once_and_only_when_they_are_read(
    demo: Predictor, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def watched(logits: np.ndarray, picture_hw: tuple[int, int]) -> Mask:
        drawn.append(picture_hw)
        return to_mask(logits, picture_hw)

    monkeypatch.setattr("sam3_backend.model.clicks.to_mask", watched)
    monkeypatch.setattr("sam3_backend.model.concepts.to_mask", watched)
    clicked = demo.segment(embedding, points=[(200, 200)])
    detected = demo.detect(embedding, text="shape", threshold=0.2)
    assert len(clicked.masks) == 3
    assert detected.found
    assert not drawn
    assert clicked.masks[0] is clicked.masks[0]
    assert detected.found[0].mask is detected.found[0].mask
    assert len(drawn) == 2
    assert clicked.masks[-1] is clicked.masks[2]
    assert len(clicked.masks[:2]) == 2
    with pytest.raises(IndexError):
        clicked.masks[3]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({}, "A point or a box is needed"),
        ({"points": []}, "A point is"),
        ({"points": [(1, 2, 3, 4)]}, "A point is"),
        ({"points": ["here"]}, "all numbers"),
        ({"points": [(float("nan"), 5)]}, "not a number"),
        ({"points": [(float("inf"), 5)]}, "not a number"),
        ({"points": [(-1, 5)]}, "outside the picture of 800 x 600"),
        ({"points": [(801, 5)]}, "outside the picture"),
        ({"points": [(1, 5, 2)]}, "A label is"),
        ({"box": (10, 10, 10, 20)}, "width and a height"),
        ({"box": (30, 10, 20, 20)}, "width and a height"),
        ({"box": (0, 0, 801, 10)}, "outside"),
        ({"box": (1, 2, 3)}, "A box is"),
        ({"box": [1, [2], 3, 4]}, "all numbers"),
        ({"box": [(0, 0, 1, 1), (2, 2, 3, 3)]}, "One box"),
        ({"points": [(1, 1)], "mask_logits": np.zeros((3, 3))}, "Mask logits"),
        ({"points": [(1, 1)], "mask_logits": [[float("nan")]]}, "Mask logits"),
        ({"points": [(1, 1)], "mask_logits": "mask"}, "Mask logits"),
        ({"points": [(1, 1)], "mask_threshold": 1.0}, "mask threshold"),
    ],
)
def test_a_click_that_cannot_be_meant_is_explained(
    demo: Predictor, embedding: Embedding, prompt: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidPrompt, match=said):
        demo.segment(embedding, **prompt)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({}, "A text or an exemplar is needed"),
        ({"text": " \n"}, "A text or an exemplar is needed"),
        ({"text": "very " * 40 + "long"}, "at most 32"),
        ({"text": "circle", "threshold": 1.5}, "between 0 and 1"),
        ({"text": "circle", "threshold": float("nan")}, "between 0 and 1"),
        ({"text": "circle", "exemplars": [(0, 0, 900, 10)]}, "outside"),
        ({"exemplars": []}, "A box is"),
        ({"exemplars": [(0, 0, 10, 10, -1)]}, "A label is"),
    ],
)
def test_a_concept_that_cannot_be_meant_is_explained(
    demo: Predictor, embedding: Embedding, prompt: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidPrompt, match=said):
        demo.detect(embedding, **prompt)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), "a.png"],
)
def test_what_is_no_picture_is_refused(demo: Predictor, picture: Any) -> None:
    with pytest.raises(InvalidPrompt):
        demo.encode(picture)


def test_pictures_of_one_pixel_and_of_extreme_shape_are_answered(demo: Predictor) -> None:
    for shape in ((1, 1, 3), (1, 2000, 3), (3000, 2, 3)):
        embedding = demo.encode(np.zeros(shape, np.uint8))
        answer = demo.segment(embedding, points=[(0.5, 0.5)])
        assert answer.masks[0].picture_hw == shape[:2]
        demo.detect(embedding, text="circle", threshold=0.0)


def test_the_devices_lack_of_memory_is_told_apart_from_other_faults(
    demo: Predictor, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fault: Exception) -> Any:
        def forward(*_: object, **__: object) -> None:
            raise fault

        return forward

    monkeypatch.setattr(demo._network.tracker_model, "forward", fail(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(ModelOutOfMemory):
        demo.segment(embedding, points=[(1, 1)])
    cause = RuntimeError("shapes do not match")
    monkeypatch.setattr(demo._network.tracker_model, "forward", fail(cause))
    with pytest.raises(ModelFailed) as caught:
        demo.segment(embedding, points=[(1, 1)])
    assert caught.value.__cause__ is cause
    assert "shapes" not in caught.value.message


def test_warming_up_leaves_nothing_behind(demo: Predictor) -> None:
    demo.warm_up()
    assert not demo.concepts._pictures._values


def test_one_backbone_serves_both_heads(demo: Predictor) -> None:
    backbones = [module for module in demo._network.modules() if type(module).__name__ == "Sam3ViTModel"]
    assert len(backbones) == 1


def test_a_predictor_without_clicks_finds_the_same_and_shares_no_embedding_with_one_that_has_them(
    demo: Predictor, scene: tuple[np.ndarray, Any]
) -> None:
    other = Predictor.load("demo", clicks=False)
    embedding = other.encode(scene[0])
    assert set(embedding.tensors) == {"hidden"}
    assert embedding.key.content_hash == demo.encode(scene[0]).key.content_hash
    assert embedding.key != demo.encode(scene[0]).key
    assert other.checkpoint_fingerprint == demo.checkpoint_fingerprint
    ours, theirs = (
        [each.detection_score for each in predictor.detect(predictor.encode(scene[0]), text="shape").found]
        for predictor in (other, demo)
    )
    assert ours == theirs
    with pytest.raises(InvalidPrompt):
        other.segment(embedding, points=[(200, 200)])
