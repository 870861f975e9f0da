from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sam3_backend.answer import Answer, AnswerOptions
from sam3_backend.errors import ImageUnreachable, InvalidLabelConfig, InvalidPrompt, InvalidRequest, Superseded
from sam3_backend.images import PictureLocation
from sam3_backend.label_studio import rle
from sam3_backend.label_studio.backend import LabelStudioBackend
from sam3_backend.masks import Mask, ScoredMask
from sam3_backend.model.scheduler import Priority, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sam3_backend.prompts import PromptSet

CONFIG = """<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image" smart="false">
<Label value="left" background="red"/><Label value="right"/></BrushLabels>
<TextArea name="prompt" toName="image"/></View>"""
TOLD = CONFIG.replace(
    "</View>", '<Text name="s" value="x"/><TextArea name="told" toName="s" model_message="true"/></View>'
)
FACTS = SimpleNamespace(name="halves", checkpoint_fingerprint="c0ffee", default_threshold=0.5, mask_nms_iou=None)
WIDTH_PX, HEIGHT_PX = 40, 20


@dataclass
class Halves:
    """Segments a picture of two halves: "left" and "right" are texts it knows, a box and a point select themselves."""

    faults: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[str, tuple[PromptSet, ...], AnswerOptions, Terms]] = field(default_factory=list)

    def answer(
        self, location: PictureLocation, prompt_sets: Sequence[PromptSet], *, options: AnswerOptions, terms: Terms
    ) -> Answer:
        self.asked.append((location.url, tuple(prompt_sets), options, terms))
        if location.url in self.faults:
            raise self.faults[location.url]
        found = [self._found(index, each) for index, each in enumerate(prompt_sets)]
        return Answer(WIDTH_PX, HEIGHT_PX, tuple(each for each in found if each.mask.area_px))

    def _found(self, index: int, prompt_set: PromptSet) -> ScoredMask:
        array = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
        if prompt_set.text == "left":
            array[:, : WIDTH_PX // 2] = True
        elif prompt_set.text == "right":
            array[:, WIDTH_PX // 2 :] = True
        mask = Mask.from_array(array)
        return ScoredMask(mask, mask.box_xyxy_px, 0.8, "detection_score", prompt_set.label, index)


class Neighbours:
    """Finds every picture under its own address and remembers who introduced themselves."""

    def __init__(self) -> None:
        self.learnt: list[tuple[str, str, str]] = []

    def learn(self, project: str, hostname: str, access_token: str) -> None:
        self.learnt.append((project, hostname, access_token))

    def locate(self, uri: str, *, project: str | None, task_id: int | None) -> PictureLocation:
        return PictureLocation(uri)


def backend(segmenter: Halves | None = None, facts: Any = FACTS) -> LabelStudioBackend:
    return LabelStudioBackend(segmenter or Halves(), Neighbours(), facts)


def batch(*uris: str, context: Any = None, config: str = CONFIG) -> dict[str, Any]:
    return {
        "tasks": [{"id": number, "data": {"image": uri}} for number, uri in enumerate(uris)],
        "project": "16.1795176323",
        "label_config": config,
        "params": {"context": context},
    }


def text(*texts: str) -> dict[str, Any]:
    return {"result": [{"id": "t", "from_name": "prompt", "type": "textarea", "value": {"text": list(texts)}}]}


def version_of(config: str, facts: Any = FACTS) -> str:
    return str(backend(facts=facts).setup({"project": "1", "schema": config})["model_version"])


def test_every_label_of_every_task_is_found_in_order():
    segmenter = Halves()
    results = backend(segmenter).predict(batch("a", "b", "c"))["results"]
    assert [[region["value"]["brushlabels"] for region in each["result"]] for each in results] == [
        [["left"], ["right"]]
    ] * 3
    assert {terms.priority for *_, terms in segmenter.asked} == {Priority.BULK}
    assert {each["model_version"] for each in results} == {version_of(CONFIG)}
    assert [each["score"] for each in results] == pytest.approx([0.8] * 3)


def test_masks_arrive_as_they_were_found():
    (result,) = backend().predict(batch("a"))["results"]
    left = rle.decode(result["result"][0]["value"]["rle"], WIDTH_PX, HEIGHT_PX)
    assert left[:, : WIDTH_PX // 2].all()
    assert not left[:, WIDTH_PX // 2 :].any()


def test_results_keep_their_places_whatever_finishes_first():
    class Slow(Halves):
        first_may_end = threading.Event()

        def answer(self, location: PictureLocation, prompt_sets: Sequence[PromptSet], **how: Any) -> Answer:
            if location.url == "0":
                assert self.first_may_end.wait(20)
            elif location.url == "2":
                self.first_may_end.set()
            found = super().answer(location, prompt_sets, **how)
            return replace(found, width_px=100 + int(location.url))

    results = backend(Slow()).predict(batch("0", "1", "2"))["results"]
    assert [each["result"][0]["original_width"] for each in results] == [100, 101, 102]


def test_a_failed_task_costs_one_empty_result_that_ends_in_the_reason():
    segmenter = Halves(faults={"b": ImageUnreachable("The picture's host answered 404."), "d": RuntimeError("secret")})
    service = backend(segmenter)
    results = service.predict(batch("a", "b", "c", "d"))["results"]
    assert [len(each["result"]) for each in results] == [2, 0, 2, 0]
    version = version_of(CONFIG)
    assert results[1]["model_version"] == f"{version}:image_unreachable: The picture's host answered 404."
    assert results[3]["model_version"].startswith(f"{version}:model_failed: ")
    assert "secret" not in results[3]["model_version"]


def test_failed_tasks_are_counted_by_code():
    counted: list[str] = []
    segmenter = Halves(faults={"b": ImageUnreachable("x"), "c": RuntimeError("x")})
    LabelStudioBackend(segmenter, Neighbours(), FACTS, counted.append).predict(batch("a", "b", "c"))
    assert sorted(counted) == ["image_unreachable", "model_failed"]


@pytest.mark.parametrize(("fault", "level"), [(Superseded("newer"), "INFO"), (ImageUnreachable("gone"), "WARNING")])
def test_the_log_warns_of_failures_and_not_of_quick_clicks(
    caplog: pytest.LogCaptureFixture, fault: Exception, level: str
):
    with caplog.at_level("INFO"):
        backend(Halves({"a": fault})).predict(batch("a"))
    (line,) = (each for each in caplog.records if each.name.endswith("predictions"))
    assert line.levelname == level


def test_a_task_without_picture_fails_alone():
    payload = batch("a", "b")
    payload["tasks"][0]["data"] = {}
    first, second = backend().predict(payload)["results"]
    assert first["result"] == []
    assert first["model_version"].endswith('invalid_request: The task has no picture in its field "image".')
    assert len(second["result"]) == 2


def test_no_tasks_give_no_results():
    assert backend().predict(batch())["results"] == []


def test_an_empty_context_is_answered_without_picture_and_model():
    segmenter = Halves()
    (result,) = backend(segmenter).predict(batch("a", context={"result": []}))["results"]
    assert result == {"result": [], "score": 0.0, "model_version": version_of(CONFIG)}
    assert segmenter.asked == []


def test_prompts_go_before_opened_tasks_before_batches():
    segmenter = Halves()
    service = backend(segmenter)
    service.predict(batch("a", context=text("left")))
    service.predict(batch("a"))
    assert [terms.priority for *_, terms in segmenter.asked] == [Priority.INTERACTIVE, Priority.TASK_OPEN]


def test_tuning_reaches_the_segmenter():
    segmenter = Halves()
    config = CONFIG.replace('smart="false"', 'model_score_threshold="0.25" model_max_regions="3"')
    backend(segmenter).predict(batch("a", config=config))
    assert segmenter.asked[0][2] == AnswerOptions(threshold=0.25, max_regions=3)


def test_an_annotator_is_told_why_nothing_came():
    (result,) = backend().predict(batch("a", context=text("zebra"), config=TOLD))["results"]
    (message,) = result["result"]
    assert (message["from_name"], message["type"]) == ("told", "textarea")
    assert "zebra" in message["value"]["text"][0]


def test_an_annotator_is_told_of_a_fault():
    segmenter = Halves(faults={"a": InvalidPrompt("Click on the object first.")})
    (result,) = backend(segmenter).predict(batch("a", context=text("left"), config=TOLD))["results"]
    assert [each["value"]["text"] for each in result["result"]] == [["Click on the object first."]]
    assert result["model_version"].endswith(":invalid_prompt: Click on the object first.")


def test_a_good_answer_clears_the_last_message():
    (result,) = backend().predict(batch("a", context=text("left"), config=TOLD))["results"]
    mask, message = result["result"]
    assert mask["type"] == "brushlabels"
    assert message["value"] == {"text": []}


def test_batches_carry_no_messages():
    results = backend(Halves(faults={"a": ImageUnreachable("x")})).predict(batch("a", "b", config=TOLD))["results"]
    assert {region["type"] for each in results for region in each["result"]} == {"brushlabels"}


def test_a_request_that_cannot_be_read_is_the_callers_to_answer():
    with pytest.raises(InvalidRequest):
        backend().predict({})
    with pytest.raises(InvalidLabelConfig):
        backend().predict(batch("a", config="<View/>"))


def test_setup_introduces_label_studio_and_never_logs_its_token(caplog):
    neighbours = Neighbours()
    service = LabelStudioBackend(Halves(), neighbours, FACTS)
    payload = {"project": "16.1795176323", "schema": CONFIG, "hostname": "http://ls:8080", "access_token": "s3cret"}
    with caplog.at_level(logging.DEBUG):
        service.setup(payload)
    assert neighbours.learnt == [("16.1795176323", "http://ls:8080", "s3cret")]
    assert "Project 16" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("extra", [None, {}, {"a": 1}, '{"a": 1}', "rubbish", 5, []])
def test_extra_params_of_any_kind_are_accepted(extra):
    payload = {"project": "1", "schema": CONFIG, "extra_params": extra}
    assert backend().setup(payload)["model_version"] == version_of(CONFIG)


@pytest.mark.parametrize("odd", [{"hostname": None}, {"access_token": 5}, {"project": None}, {"project": 16}])
def test_setup_gets_by_without_an_introduction(odd):
    payload = {"project": "1", "schema": CONFIG, "hostname": "http://h", "access_token": "t"}
    assert backend().setup(payload | odd)["model_version"]


@pytest.mark.parametrize("schema", [None, "", "<View/>", 5])
def test_setup_refuses_a_config_it_cannot_answer(schema):
    with pytest.raises(InvalidRequest):
        backend().setup({"project": "1", "schema": schema})


def test_the_version_names_checkpoint_and_fingerprint():
    assert version_of(CONFIG).startswith("sam3-backend/halves:c0ffee-")


def test_the_version_stays_when_colours_or_white_space_change():
    assert version_of(CONFIG) == version_of(CONFIG.replace('"red"', '"blue"').replace("><", ">\n  <"))


@pytest.mark.parametrize(
    "facts",
    [
        {"checkpoint_fingerprint": "decaf"},
        {"default_threshold": 0.4},
        {"mask_nms_iou": 0.7},
        {"name": "other"},
    ],
    ids=str,
)
def test_the_version_changes_with_checkpoint_and_thresholds(facts):
    assert version_of(CONFIG) != version_of(CONFIG, SimpleNamespace(**(vars(FACTS) | facts)))


def test_the_version_changes_with_the_configs_prompts_and_thresholds():
    changed = [
        CONFIG.replace('"left"', '"west"'),
        CONFIG.replace('"right"', '"right" predicted_values="east"'),
        CONFIG.replace("smart=", 'model_score_threshold="0.5" smart='),
    ]
    assert len({version_of(each) for each in [CONFIG, *changed]}) == 4


def test_versions_are_those_given_out_newest_first():
    service = backend()
    assert service.versions() == {"versions": ["sam3-backend/halves:c0ffee"]}
    first = service.setup({"project": "1", "schema": CONFIG})["model_version"]
    second = service.setup({"project": "2", "schema": TOLD.replace('"left"', '"west"')})["model_version"]
    assert service.versions() == {"versions": [second, first]}


@pytest.mark.parametrize("action", ["START_TRAINING", "PROJECT_UPDATED", "UNHEARD_OF", None])
def test_webhooks_are_taken_note_of(action):
    assert backend().webhook({"action": action}) == {"status": "ok"}


def test_tuning_and_what_is_answered_for_the_moment_reach_the_answer():
    segmenter = Halves()
    tuned = CONFIG.replace(
        'smart="false"',
        'model_mask_threshold="0.6" model_nms_iou="0.7" model_min_area="0.5%" model_multimask="true"',
    ).replace("</View>", '<Number name="threshold" toName="image"/></View>')
    context = text("left")
    context["result"].append({"from_name": "threshold", "type": "number", "value": {"number": 0.2}})
    backend(segmenter).predict(batch("a", context=context, config=tuned))
    ((_, _, options, _),) = segmenter.asked
    assert options == AnswerOptions(
        threshold=0.2, mask_threshold=0.6, nms_iou=0.7, max_regions=50, min_area_fraction=0.005, multimask=True
    )


def test_more_objects_than_a_page_bears_are_said_in_the_log(caplog):
    class Crowd(Halves):
        def answer(self, location: PictureLocation, prompt_sets: Sequence[PromptSet], **how: Any) -> Answer:
            return replace(super().answer(location, prompt_sets, **how), left_out=198)

    with caplog.at_level(logging.WARNING):
        backend(Crowd()).predict(batch("a"))
    assert "Project 16: task 0 has 200 objects, the best 2 are returned (model_max_regions)" in caplog.text


def test_an_annotator_who_has_everything_already_is_told_so():
    class Known(Halves):
        def answer(self, location: PictureLocation, prompt_sets: Sequence[PromptSet], **how: Any) -> Answer:
            return Answer(WIDTH_PX, HEIGHT_PX, (), known=2)

    (result,) = backend(Known()).predict(batch("a", context=text("left"), config=TOLD))["results"]
    (message,) = result["result"]
    assert message["value"]["text"] == ['Nothing new found for "left": you have accepted all there is already.']


def test_a_draft_of_the_asker_is_compared_with_what_is_found():
    segmenter = Halves()
    (left,) = backend(segmenter).predict(batch("a", context=text("left")))["results"][0]["result"]
    again = batch("a", context=text("left"))
    again["tasks"][0]["drafts"] = [{"user": "a@b", "result": [left]}]
    backend(segmenter).predict(again)
    (_, (prompt,), options, _) = segmenter.asked[-1]
    assert options.is_known is not None
    assert options.is_known(segmenter._found(0, prompt))


def test_what_is_not_done_when_label_studio_stops_waiting_is_answered_as_unfinished(caplog: pytest.LogCaptureFixture):
    may_end = threading.Event()

    class Stuck(Halves):
        def answer(self, location: PictureLocation, prompt_sets: Sequence[PromptSet], **how: Any) -> Answer:
            if location.url != "a":
                assert may_end.wait(20)
            return super().answer(location, prompt_sets, **how)

    service = LabelStudioBackend(Stuck(), Neighbours(), FACTS, deadline_s=0.3)
    try:
        results = service.predict(batch("a", *"bcdefgh"))["results"]
    finally:
        may_end.set()
    assert [len(each["result"]) for each in results] == [2] + [0] * 7
    version = version_of(CONFIG)
    assert results[0]["model_version"] == version
    assert all(each["model_version"].startswith(f"{version}:unfinished: ") for each in results[1:])
    assert "Retrieve predictions again" in results[1]["model_version"]
    assert "sam3-backend preannotate --project 16" in caplog.text


def test_model_calls_of_a_request_know_its_deadline():
    segmenter = Halves()
    before = time.monotonic()
    LabelStudioBackend(segmenter, Neighbours(), FACTS, deadline_s=50).predict(batch("a", context=text("left")))
    ((*_, terms),) = segmenter.asked
    assert terms.deadline is not None
    assert before + 50 <= terms.deadline <= time.monotonic() + 50


def test_a_prompt_is_not_wanted_once_a_newer_request_holds_it_too():
    wanted: list[bool] = []
    service: LabelStudioBackend

    class Overtaken(Halves):
        def answer(self, location: PictureLocation, prompt_sets: Sequence[PromptSet], **how: Any) -> Answer:
            if not self.asked:
                self.asked.append((location.url, tuple(prompt_sets), how["options"], how["terms"]))
                wanted.append(how["terms"].is_wanted())
                service.predict(batch("a", context=text("left", "right")))
                newer = threading.Thread(target=service.predict, args=(batch("a", context=text("left", "right")),))
                newer.start()
                assert self.newer_is_here.wait(20)
                wanted.append(how["terms"].is_wanted())
                self.newer_may_end.set()
                newer.join(20)
            elif len(self.asked) == 2:
                self.newer_is_here.set()
                assert self.newer_may_end.wait(20)
            return super().answer(location, prompt_sets, **how)

        newer_is_here, newer_may_end = threading.Event(), threading.Event()

    service = backend(Overtaken())
    service.predict(batch("a", context=text("left")))
    assert wanted == [True, False]
