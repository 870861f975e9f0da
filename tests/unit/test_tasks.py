from __future__ import annotations

import math
from typing import Any

import pytest

from sam3_backend.errors import InvalidLabelConfig, InvalidPrompt, InvalidRequest
from sam3_backend.label_studio.tasks import TaskRequest, read_predict
from sam3_backend.prompts import Box, Point, PromptSet

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Text name="status" value="x"/>
  <BrushLabels name="brush" toName="image"><Label value="red circle"/><Label value="Car" predicted_values="car, truck"/>
  </BrushLabels>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="red circle"/><Label value="Car"/></KeyPointLabels>
  <RectangleLabels name="rect" toName="image" smart="true"><Label value="red circle"/></RectangleLabels>
  <TextArea name="prompt" toName="image"/>
  <TextArea name="message" toName="status" model_message="true"/>
  <Choices name="mode" toName="image"><Choice value="best"/></Choices>
</View>"""

TASK = {"id": 7, "data": {"image": "/data/upload/1/a.png"}}


def payload(context: Any, tasks: Any = None, config: Any = CONFIG) -> dict[str, Any]:
    return {
        "tasks": [TASK] if tasks is None else tasks,
        "project": "16.1795176323",
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }


def asked(*regions: Any) -> tuple[PromptSet, ...]:
    (task,) = read_predict(payload({"result": list(regions)})).tasks
    if isinstance(task, InvalidRequest):
        raise task
    return task.prompt_sets


def keypoint(x: Any, y: Any, label: str = "red circle", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.2, "keypointlabels": [label], "labels": [label]}
    size = {"original_width": -5, "original_height": "rubbish"}
    return {
        "id": f"k{x}",
        "from_name": "kp",
        "to_name": "image",
        "type": "keypointlabels",
        "value": value,
        **size,
        **more,
    }


def rectangle(x: Any, y: Any, width: Any, height: Any, rotation: Any = 0) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": ["red circle"]}
    return {"id": f"r{x}", "from_name": "rect", "to_name": "image", "type": "rectanglelabels", "value": value}


def text(*texts: Any, from_name: str = "prompt") -> dict[str, Any]:
    return {"id": "t", "from_name": from_name, "to_name": "image", "type": "textarea", "value": {"text": list(texts)}}


def test_points_of_one_label_are_about_one_object():
    assert asked(keypoint(10, 20, is_positive=True), keypoint(30.5, 40.25, is_positive=False)) == (
        PromptSet(points=(Point(0.1, 0.2), Point(0.305, 0.4025, is_positive=False)), label="red circle"),
    )


def test_points_of_two_labels_are_about_two_objects():
    first, second = asked(keypoint(10, 20), keypoint(30, 40, "Car"), keypoint(11, 21))
    assert (len(first.points), first.label) == (2, "red circle")
    assert (len(second.points), second.label) == (1, "Car")


def test_a_point_without_a_mark_is_positive():
    (prompt,) = asked(keypoint(10, 20))
    assert prompt.points[0].is_positive


def test_coordinates_stay_sub_pixel():
    (prompt,) = asked(keypoint(47.63995609220637, 21.167215514087083))
    assert prompt.points[0].x == pytest.approx(0.4763995609220637, abs=1e-15)
    assert prompt.points[0].y == pytest.approx(0.21167215514087083, abs=1e-15)


def test_each_rectangle_is_a_question_of_its_own():
    assert asked(rectangle(10, 20, 30, 40), rectangle(1, 2, 3, 4)) == (
        PromptSet(box=Box(0.1, 0.2, 0.4, 0.6), label="red circle"),
        PromptSet(box=Box(0.01, 0.02, 0.04, 0.06), label="red circle"),
    )


def test_a_turned_rectangle_becomes_the_upright_box_around_it_in_the_pictures_own_shape():
    (prompt,) = asked(rectangle(50, 20, 30, 10, rotation=90))
    assert prompt.box is not None
    # 400 x 100: 120 px wide and 10 px high, turned clockwise about (200, 20).
    assert prompt.box.xyxy_px(400, 100) == pytest.approx((190, 20, 200, 100))


def test_each_text_is_a_question_with_the_label_it_means():
    assert asked(text("red circles", "truck", "tree")) == (
        PromptSet(text="red circles", label="red circle"),
        PromptSet(text="truck", label="Car"),
        PromptSet(text="tree"),
    )


def test_texts_are_cleaned_of_blanks_line_ends_and_repetitions():
    assert [each.text for each in asked(text("tree\n", "  ", "", "Tree", "tall\n tree"))] == ["tree", "tall tree"]


def test_text_may_be_a_single_string():
    region = text()
    region["value"]["text"] = "tree"
    assert [each.text for each in asked(region)] == ["tree"]


def test_plain_tools_keep_their_label_in_a_region_with_the_same_id():
    point = {"id": "a", "from_name": "k", "type": "keypoint", "value": {"x": 10, "y": 20, "width": 1}}
    label = {"id": "a", "from_name": "l", "type": "labels", "value": {"x": 10, "y": 20, "width": 1, "labels": ["Car"]}}
    (prompt,) = asked(point, label)
    assert (len(prompt.points), prompt.label) == (1, "Car")


@pytest.mark.parametrize(
    "region",
    [
        {
            "id": "k10",
            "from_name": "kp",
            "type": "keypointlabels",
            "value": {"format": "rle", "rle": [0], "keypointlabels": ["Car"]},
        },
        {"from_name": "mode", "type": "choices", "value": {"choices": ["best"]}},
        {"from_name": "thr", "type": "number", "value": {"number": 0.35}},
        {"from_name": "kp", "type": "keypointlabels", "value": {"x": 10, "keypointlabels": ["Car"]}},
        {"from_name": "rect", "type": "rectanglelabels", "value": {"x": 10, "y": 10}},
        {"from_name": "brush", "type": "brushlabels", "value": {"format": "rle", "rle": [0], "brushlabels": ["Car"]}},
        {"from_name": "message", "type": "textarea", "value": {"text": ["Nothing found"]}},
        {"from_name": "prompt", "type": "textarea", "value": {"text": None}},
        {"from_name": "x", "type": "wizardry", "value": {"x": 1, "y": 2}},
        {"type": "keypointlabels", "value": None},
        {"type": "keypointlabels"},
        {"type": ["odd"], "id": {"odd": 1}, "from_name": ["odd"], "value": {}},
        "rubbish",
        None,
    ],
    ids=str,
)
def test_what_is_no_prompt_rides_along(region):
    (prompt,) = asked(region, keypoint(10, 20))
    assert prompt == PromptSet(points=(Point(0.1, 0.2),), label="red circle")


@pytest.mark.parametrize("bad", [-0.1, 100.1, math.nan, math.inf, "12", None, True, [1], 10**400])
def test_coordinates_that_are_none_are_refused(bad):
    for region in [keypoint(bad, 20), keypoint(20, bad), rectangle(bad, 20, 10, 10), rectangle(20, bad, 10, 10)]:
        with pytest.raises(InvalidPrompt):
            asked(region)


@pytest.mark.parametrize(
    "region",
    [rectangle(90, 10, 20, 10), rectangle(10, 10, 0, 10), rectangle(10, 10, -5, 10), rectangle(1, 1, 1, 1, "x")],
)
def test_impossible_rectangles_are_refused(region):
    with pytest.raises(InvalidPrompt):
        asked(region)


def test_rounding_at_the_edge_is_not_outside():
    assert asked(keypoint(100.0000000001, -0.0000000001), rectangle(90, 90, 10.0000000002, 10)) == (
        PromptSet(points=(Point(1.0, 0.0),), label="red circle"),
        PromptSet(box=Box(0.9, 0.9, 1.0, 1.0), label="red circle"),
    )


def test_without_context_every_label_is_a_text():
    request = read_predict(payload(None))
    assert not request.is_interactive
    assert request.project == "16.1795176323"
    expected = (
        PromptSet(text="red circle", label="red circle"),
        PromptSet(text="car", label="Car"),
        PromptSet(text="truck", label="Car"),
    )
    assert request.tasks == (TaskRequest(7, "/data/upload/1/a.png", expected),)


def test_params_may_be_missing():
    bare = payload(None)
    del bare["params"]
    assert not read_predict(bare).is_interactive


@pytest.mark.parametrize("context", [{"result": []}, {"result": None}, {"result": [text("  ")]}])
def test_a_context_without_prompts_asks_nothing_and_needs_no_picture(context):
    request = read_predict(payload(context, tasks=[{"id": 7, "data": {}}]))
    assert request.is_interactive
    assert request.tasks == (TaskRequest(7, "", ()),)


def test_every_task_has_its_place_also_those_that_cannot_be_read():
    tasks = [TASK, {"id": 8, "data": {"other": "x"}}, "rubbish", None, {"id": 9, "data": {"image": "http://h/b.png"}}]
    read = read_predict(payload(None, tasks)).tasks
    assert [type(each).__name__ for each in read] == ["TaskRequest", *["InvalidRequest"] * 3, "TaskRequest"]
    assert str(read[1]) == 'The task has no picture in its field "image".'


def test_dots_lead_into_nested_data():
    config = CONFIG.replace("$image", "$media.photo")
    nested = {"id": 1, "data": {"media": {"photo": "a.png"}}}
    flat = {"id": 2, "data": {"media.photo": "b.png"}}
    wrong = {"id": 3, "data": {"media": "c.png"}}
    first, second, third = read_predict(payload(None, [nested, flat, wrong], config)).tasks
    assert isinstance(first, TaskRequest)
    assert isinstance(second, TaskRequest)
    assert (first.uri, second.uri) == ("a.png", "b.png")
    assert isinstance(third, InvalidRequest)


def test_a_bad_prompt_is_every_tasks_fault_and_not_the_requests():
    first, second = read_predict(payload({"result": [keypoint("x", 1)]}, [TASK, TASK])).tasks
    assert isinstance(first, InvalidPrompt)
    assert isinstance(second, InvalidPrompt)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({}, InvalidRequest),
        ({"tasks": "x"}, InvalidRequest),
        (payload(None, config=None), InvalidRequest),
        (payload(None, config="<View/>"), InvalidLabelConfig),
        (payload("rubbish"), InvalidRequest),
        (payload({"result": "rubbish"}), InvalidRequest),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_as_a_whole(bad, fault):
    with pytest.raises(fault):
        read_predict(bad)


EXAMPLES = CONFIG.replace(
    "</View>",
    """<RectangleLabels name="like" toName="image" smart="true" model_mode="exemplar"><Label value="red circle"/>
    </RectangleLabels><RectangleLabels name="unlike" toName="image" smart="true" model_mode="negative_exemplar">
    <Label value="red circle"/></RectangleLabels><Number name="threshold" toName="image"/></View>""",
)


def example(from_name: str, x: float, label: str = "red circle", **more: Any) -> dict[str, Any]:
    region = rectangle(x, 20, 30, 40) | {"from_name": from_name, **more}
    region["value"]["rectanglelabels"] = [label]
    return region


def asked_with(config: str, *regions: Any) -> tuple[PromptSet, ...]:
    (task,) = read_predict(payload({"result": list(regions)}, config=config)).tasks
    if isinstance(task, InvalidRequest):
        raise task
    return task.prompt_sets


def answered(choice: str) -> dict[str, Any]:
    return {"id": "m", "from_name": "mode", "type": "choices", "value": {"choices": [choice]}}


def test_examples_of_one_label_are_one_question():
    first, second = asked_with(EXAMPLES, example("like", 10), example("unlike", 50), example("like", 5, "Car"))
    assert first.label == "red circle"
    assert [(each.box.x1, each.is_positive) for each in first.exemplars] == [(0.1, True), (0.5, False)]
    assert (second.label, len(second.exemplars)) == ("Car", 1)


def test_an_example_marked_as_negative_is_one():
    (asked_for,) = asked_with(EXAMPLES, example("like", 10), example("like", 50, is_positive=False))
    assert [each.is_positive for each in asked_for.exemplars] == [True, False]


def test_negative_examples_alone_are_refused_with_advice():
    with pytest.raises(InvalidPrompt, match="Draw a box around one to find first"):
        asked_with(EXAMPLES, example("unlike", 10))


def test_other_rectangles_of_the_same_config_still_cut_out():
    (asked_for,) = asked_with(EXAMPLES, example("rect", 10))
    assert asked_for.box is not None


def test_an_answered_mode_takes_the_place_of_the_controls():
    (all_like_it,) = asked_with(EXAMPLES, example("rect", 10), answered("find all like this"))
    (cut_out,) = asked_with(EXAMPLES, example("like", 10), answered("segment"))
    assert len(all_like_it.exemplars) == 1
    assert cut_out.box is not None


def test_an_answered_number_holds_for_this_request():
    number = {"id": "n", "from_name": "threshold", "type": "number", "value": {"number": 0.35}}
    request = read_predict(payload({"result": [text("tree"), number]}, config=EXAMPLES))
    assert request.tuning.score_threshold == 0.35
    assert request.config.tuning.score_threshold is None


def test_an_answered_number_out_of_range_is_every_tasks_fault():
    number = {"id": "n", "from_name": "threshold", "type": "number", "value": {"number": 35}}
    with pytest.raises(InvalidPrompt, match='"threshold" must be a number from 0 to 1, not 35'):
        asked_with(EXAMPLES, text("tree"), number)


def test_texts_may_name_their_label():
    assert asked(text("Car: pickup; red one; red circle: ball")) == (
        PromptSet(text="pickup", label="Car"),
        PromptSet(text="red one", label="Car"),
        PromptSet(text="ball", label="red circle"),
    )


CAPTIONS = CONFIG.replace('name="brush"', 'name="brush" model_prompt_field="$meta.caption"')


def test_prompts_may_come_from_each_tasks_own_data():
    tasks = [
        {"id": 1, "data": {"image": "a.png", "meta": {"caption": "Car: pickup; van"}}},
        {"id": 2, "data": {"image": "b.png", "meta": {"caption": ["red circle", "red circle"]}}},
        {"id": 3, "data": {"image": "c.png", "meta": {"caption": ""}}},
        {"id": 4, "data": {"image": "d.png"}},
        {"id": 5, "data": {"image": "e.png", "meta": {"caption": 7}}},
        {"id": 6, "data": {"image": "f.png", "meta": {"caption": "bus: x"}}},
    ]
    first, second, third, *faults = read_predict(payload(None, tasks, CAPTIONS)).tasks
    assert first == TaskRequest(1, "a.png", (PromptSet(text="pickup", label="Car"), PromptSet(text="van", label="Car")))
    assert second == TaskRequest(2, "b.png", (PromptSet(text="red circle", label="red circle"),))
    assert third == TaskRequest(3, "", ())
    assert [str(fault) for fault in faults] == [
        'The task has no prompts in its field "meta.caption".',
        'The task\'s field "meta.caption" must hold a text, a list of texts, or texts by label.',
        'There is no label "bus". Before a colon write one of: "red circle", "Car".',
    ]


def test_one_label_may_take_its_prompts_from_the_data():
    config = CONFIG.replace('predicted_values="car, truck"', 'predicted_values="$makes, van"')
    (task,) = read_predict(payload(None, [{"id": 1, "data": {"image": "a", "makes": "beetle; mini"}}], config)).tasks
    assert isinstance(task, TaskRequest)
    assert [(each.text, each.label) for each in task.prompt_sets] == [
        ("red circle", "red circle"),
        ("beetle", "Car"),
        ("mini", "Car"),
        ("van", "Car"),
    ]


def test_a_field_of_prompts_is_not_asked_for_when_an_annotator_asks():
    (asked_for,) = asked_with(CAPTIONS, keypoint(10, 20))
    assert asked_for.points


def test_what_the_asker_has_accepted_comes_along():
    draft = {"user": "a@b", "result": [{"id": "r", "type": "brushlabels", "value": {"rle": []}}]}
    (task,) = read_predict(payload({"result": [text("tree")]}, [TASK | {"drafts": [draft]}])).tasks
    (batch,) = read_predict(payload(None, [TASK | {"drafts": [draft]}])).tasks
    assert isinstance(task, TaskRequest)
    assert isinstance(batch, TaskRequest)
    assert (len(task.accepted), len(batch.accepted)) == (1, 0)
