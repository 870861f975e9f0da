from __future__ import annotations

import json
from typing import Any

import pytest

from sam3_backend.errors import InvalidPrompt, InvalidRequest
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.selection import Selection, pages, read_filter, spread
from sam3_backend.label_studio.stored_predictions import StoredPredictions
from sam3_backend.label_studio.tasks import label_prompts
from sam3_backend.label_studio.wanted import looking_for

CONFIG = """<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image" smart="false">
<Label value="Vehicle" predicted_values="car"/><Label value="Trees" alias="tree"/></BrushLabels>
<PolygonLabels name="polygon" toName="image"><Label value="Person"/></PolygonLabels></View>"""


class Tabs:
    """A Label Studio with a tab and 1200 tasks, every third one labelled."""

    origin = "http://ls"

    def __init__(self, conjunction: str = "and") -> None:
        tabs_filter = {"filter": "filter:tasks:id", "operator": "less", "type": "Number", "value": 9}
        self.filters = {"conjunction": conjunction, "items": [tabs_filter, tabs_filter]}
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, **query: Any) -> Any:
        if path == "/api/dm/views/4/":
            return {"project": 1, "data": {"filters": self.filters}}
        self.asked.append({**query, "query": json.loads(query["query"])})
        first, size = (query["page"] - 1) * query["page_size"], query["page_size"]
        numbers = range(first, min(first + size, 1200))
        return {"total": 1200, "tasks": [{"id": n, "data": {}, "total_annotations": int(n % 3 == 0)} for n in numbers]}


def listed(api: Tabs, selection: Selection) -> list[int]:
    return [task["id"] for page in pages(api, 1, selection) for task in page]  # type: ignore[arg-type]


def test_all_tasks_come_page_by_page():
    assert listed(Tabs(), Selection()) == list(range(1200))


def test_labelled_tasks_are_left_out():
    assert listed(Tabs(), Selection(only_unlabeled=True)) == [number for number in range(1200) if number % 3]


def test_a_tab_and_further_filters_hold_together():
    api = Tabs()
    listed(api, Selection(4, (read_filter("data.city equal New York"),)))
    items = api.asked[0]["query"]["filters"]["items"]
    assert [(each["filter"], each["value"]) for each in items[1:]] == [
        ("filter:tasks:id", 9),
        ("filter:tasks:data.city", "New York"),
    ]


def test_a_filter_is_not_added_to_alternatives():
    with pytest.raises(InvalidRequest, match='"or"'):
        listed(Tabs("or"), Selection(4, (read_filter("id greater 1"),)))


def test_a_tab_of_another_project_is_refused():
    with pytest.raises(InvalidRequest, match="does not belong to project 2"):
        list(pages(Tabs(), 2, Selection(4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["id", "id greater", "{", '{"filter": "x"}'])
def test_half_a_filter_is_refused(text: str):
    with pytest.raises(InvalidRequest):
        read_filter(text)


def test_a_filter_may_be_label_studios_own_json():
    own = {"filter": "filter:tasks:id", "operator": "in", "type": "Number", "value": {"min": 1, "max": 2}}
    assert json.loads(read_filter(json.dumps(own))) == own


def test_a_sample_comes_from_all_over_the_project():
    assert [each["id"] for each in spread(Tabs(), 1, Selection(), 4)] == [0, 300, 600, 900]  # type: ignore[arg-type]


class Versions:
    """Tasks with the good version, with a failed one, with both, with none."""

    def __init__(self) -> None:
        self.stored = {1: ["v1"], 2: ["v1:image_unreachable: No, v1"], 3: ["v1:unfinished: Late.", "v1"], 5: []}

    def get(self, path: str, **query: Any) -> Any:
        if path == "/api/predictions/":
            return [{"id": place, "model_version": each} for place, each in enumerate(self.stored[query["task"]])]
        asked = json.loads(query["query"])
        ((wanted,),) = [each["value"] for each in asked["filters"]["items"]]
        included = asked["selectedItems"]["included"]
        # As Label Studio does it: any version that contains the text counts, and a task may come twice.
        tasks = [{"id": n} for n in included for each in self.stored[n] if wanted in each]
        return {"total": len(tasks), "tasks": tasks}


def test_a_failed_tasks_version_is_not_taken_for_the_good_one():
    stored = StoredPredictions(Versions(), 1, "v1")  # type: ignore[arg-type]
    assert stored.holders([1, 2, 3, 5]) == {1, 3}


def test_texts_replace_those_of_the_labels_they_name_and_the_others_are_not_looked_for():
    config = LabelConfig.parse(CONFIG)
    wanted = looking_for(config, ["Vehicle=bus, truck", "tree"])
    asked = [(each.label, each.text) for each in label_prompts(wanted, {})]
    assert asked == [("Vehicle", "bus"), ("Vehicle", "truck"), ("tree", "tree")]
    assert [output.name for output in wanted.outputs] == ["brush"]
    assert wanted.signature != config.signature


@pytest.mark.parametrize("wanted", ["Vehicle=", "lemon", "Lemon=car", " , "])
def test_texts_for_no_label_are_refused(wanted: str):
    with pytest.raises(InvalidPrompt):
        looking_for(LabelConfig.parse(CONFIG), [wanted])
