"""The command line, with the model replaced by one that answers what a test says."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from sam3_backend import cli
from sam3_backend.answer import Answer
from sam3_backend.cli import COMMANDS, doctor, warm
from sam3_backend.cli.serve import describe_settings
from sam3_backend.cli.server_checks import look_at_server
from sam3_backend.embeddings.store import StoreStatistics
from sam3_backend.errors import CheckpointError
from sam3_backend.label_studio import rle
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.projects import Project
from sam3_backend.masks import Mask, ScoredMask
from sam3_backend.prompts import Box, Exemplar, Point, PromptSet
from sam3_backend.settings import Settings
from tests.local_http import content, serve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH_PX, HEIGHT_PX = 200, 100


def found() -> ScoredMask:
    array = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    array[20:60, 50:120] = True
    return ScoredMask(Mask.from_array(array), (50.25, 20.0, 119.5, 60.0), 0.875, "detection_score", "car")


class RecordingParts:
    """Stands for ``composition``: remembers what it was asked."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.asked: list[PromptSet] = []
        self.options: Any = None
        self.answer: tuple[ScoredMask, ...] = (found(),)
        self.fault: Exception | None = None
        self.predictor = SimpleNamespace(name="demo")
        self.demo_notice = "This is the DEMO checkpoint."
        self.segmenter = self

    def compose(self, settings: Settings) -> RecordingParts:
        if self.fault:
            raise self.fault
        self.settings = settings
        return self

    def answer_picture(self, picture: Any, prompt_sets: Sequence[PromptSet], *, options: Any) -> Answer:
        self.asked, self.options = list(prompt_sets), options
        return Answer(picture.width_px, picture.height_px, self.answer, {"encode": 1.5, "prompt": 0.25})


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> RecordingParts:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    recording = RecordingParts()
    monkeypatch.setitem(sys.modules, "sam3_backend.composition", recording)
    return recording


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (200, 200, 200)).save(path)
    return str(path)


def usage_error(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


class TestSegment:
    def test_asks_one_question_per_text_and_one_for_points_and_box(self, parts: RecordingParts, picture: str) -> None:
        texts = ["--text", "car", "--text", "red bus"]
        clicks = ["--point", "50,25", "--point", "60.5,25", "--negative-point", "0,100", "--box", "20,10,180,90"]
        assert cli.main(["segment", picture, *texts, *clicks]) == 0
        assert parts.asked == [
            PromptSet(text="car", label="car"),
            PromptSet(text="red bus", label="red bus"),
            PromptSet(
                points=(Point(0.25, 0.25), Point(0.3025, 0.25), Point(0.0, 1.0, is_positive=False)),
                box=Box(0.1, 0.1, 0.9, 0.9),
            ),
        ]
        assert parts.options.refine is False

    def test_gives_exemplars_to_the_text(self, parts: RecordingParts, picture: str) -> None:
        boxes = ["--exemplar", "20,10,180,90", "--negative-exemplar", "0,0,20,10"]
        exemplars = (Exemplar(Box(0.1, 0.1, 0.9, 0.9)), Exemplar(Box(0.0, 0.0, 0.1, 0.1), is_positive=False))
        assert cli.main(["segment", picture, "--text", "car", *boxes]) == 0
        assert parts.asked == [PromptSet(text="car", exemplars=exemplars, label="car")]
        assert cli.main(["segment", picture, *boxes]) == 0
        assert parts.asked == [PromptSet(exemplars=exemplars)]

    def test_writes_what_was_found_as_json(self, parts: RecordingParts, picture: str, tmp_path: Path) -> None:
        assert cli.main(["segment", picture, "--text", "car", "--json", str(tmp_path / "out.json")]) == 0
        written = json.loads((tmp_path / "out.json").read_text())
        assert written.keys() == {"image", "checkpoint", "timings_ms", "regions"}
        assert written["image"] == {"width": WIDTH_PX, "height": HEIGHT_PX}
        assert written["checkpoint"] == "demo"
        assert written["timings_ms"].keys() == {"load", "read", "encode", "prompt"}
        (region,) = written["regions"]
        assert region.keys() == {"label", "score", "box_xyxy", "area_px", "ls_rle", "coco_rle"}
        assert (region["label"], region["score"], region["area_px"]) == ("car", 0.875, 40 * 70)
        assert region["box_xyxy"] == [50, 20, 120, 60]  # what the mask covers, whatever the detector drew
        assert np.array_equal(rle.decode(region["ls_rle"], WIDTH_PX, HEIGHT_PX), found().mask.to_array())
        assert region["coco_rle"] == rle.encode_coco(found().mask)

    def test_writes_json_alone_to_standard_output(
        self, parts: RecordingParts, picture: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["segment", picture, "--text", "car", "--json", "-"]) == 0
        assert len(json.loads(capsys.readouterr().out)["regions"]) == 1

    def test_shows_a_table_and_what_the_demo_is(
        self, parts: RecordingParts, picture: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["segment", picture, "--text", "car"]) == 0
        shown = capsys.readouterr()
        assert "car" in shown.out
        assert "0.875" in shown.out
        assert "DEMO" in shown.err

    def test_draws_what_was_found(self, parts: RecordingParts, picture: str, tmp_path: Path) -> None:
        assert cli.main(["segment", picture, "--text", "car", "--overlay", str(tmp_path / "o.png")]) == 0
        with Image.open(tmp_path / "o.png") as image:
            drawn = np.asarray(image)
        assert drawn.shape == (HEIGHT_PX, WIDTH_PX, 3)
        assert (drawn[30:55, 60:110] != 200).any(axis=2).all()
        assert (drawn[70:, 130:] == 200).all()

    @pytest.mark.parametrize("option", [["--json", "/nowhere/out.json"], ["--overlay", "out.unknown"]])
    def test_a_result_that_cannot_be_written_fails_with_one_line(
        self, parts: RecordingParts, picture: str, capsys: pytest.CaptureFixture[str], option: list[str]
    ) -> None:
        assert cli.main(["segment", picture, "--text", "car", *option]) == 1
        assert capsys.readouterr().err.count("\n") == 1

    def test_finding_nothing_is_no_failure(self, parts: RecordingParts, picture: str, tmp_path: Path) -> None:
        parts.answer = ()
        files = ["--json", str(tmp_path / "o.json"), "--overlay", str(tmp_path / "o.png")]
        assert cli.main(["segment", picture, "--text", "car", *files]) == 0
        assert json.loads((tmp_path / "o.json").read_text())["regions"] == []

    def test_prefers_its_own_options_to_the_environment(
        self, parts: RecordingParts, picture: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DEVICE", "cuda")
        monkeypatch.setenv("DTYPE", "float16")
        chosen = ["--checkpoint", "facebook/sam3", "--device", "cpu", "--threshold", "0.25"]
        assert cli.main(["segment", picture, "--text", "car", *chosen]) == 0
        assert parts.settings is not None
        assert parts.settings.model_checkpoint == "facebook/sam3"
        assert (parts.settings.device, parts.settings.dtype) == ("cpu", "float16")
        assert parts.options.threshold == 0.25

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["--point", "300,5"],
            ["--box", "50,50,10,10"],
            ["--point", "nan,5"],
            ["--text", "a", "--text", "b", "--exemplar", "1,1,9,9"],
        ],
    )
    def test_prompts_that_cannot_be_are_wrong_usage(
        self, parts: RecordingParts, picture: str, capsys: pytest.CaptureFixture[str], arguments: list[str]
    ) -> None:
        assert cli.main(["segment", picture, *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert parts.settings is None  # said before a model is loaded

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--point", "1"],
            ["--box", "1,2,3"],
            ["--box", "a,b,c,d"],
            ["--threshold", "2"],
            ["--dtype", "int4"],
            ["--no"],
        ],
    )
    def test_arguments_that_cannot_be_read_are_wrong_usage(self, picture: str, arguments: list[str]) -> None:
        usage_error("segment", picture, "--text", "car", *arguments)

    def test_a_file_that_is_no_picture_fails_with_one_line(
        self, parts: RecordingParts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "not.png").write_text("hello")
        for name in ("not.png", "absent.png"):
            assert cli.main(["segment", str(tmp_path / name), "--text", "car"]) == 1
            assert len(capsys.readouterr().err.splitlines()) == 1

    def test_a_checkpoint_that_cannot_be_used_fails_with_one_line(
        self, parts: RecordingParts, picture: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        parts.fault = CheckpointError("There is no such checkpoint.")
        assert cli.main(["segment", picture, "--text", "car"]) == 1
        assert capsys.readouterr().err == "sam3-backend: There is no such checkpoint.\n"


class TestDoctor:
    @pytest.fixture(autouse=True)
    def _only_what_needs_no_model(self, monkeypatch: pytest.MonkeyPatch, parts: RecordingParts) -> None:
        good = doctor.Finding("checkpoint", "good", "fine.")
        monkeypatch.setattr(doctor, "_checkpoint", lambda _settings: good)
        monkeypatch.setattr(doctor, "_device", lambda _settings: good)
        monkeypatch.setenv("PORT", "0")

    def test_is_content_with_the_defaults(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["doctor"]) == 0
        assert "wrong" not in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("name", "value", "part"),
        [
            ("LABEL_STUDIO_URL", "http://127.0.0.1:9", "does not answer as Label Studio does"),
            ("REDIS_URL", "redis://127.0.0.1:9/0", "Redis does not answer"),
            ("HOST", "192.0.2.1", "cannot be listened on"),
        ],
    )
    def test_finds_what_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, part: str
    ) -> None:
        monkeypatch.setenv(name, value)
        assert cli.main(["doctor"]) == 1
        shown = capsys.readouterr().out
        assert part in shown
        assert shown.count("wrong") == 1

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
    def test_finds_no_server_where_none_runs(self, host: str) -> None:
        nobody = Settings(host=host, port=9)
        assert not doctor._is_ours(nobody)
        assert [each.verdict for each in look_at_server(nobody)] == ["advice"]

    def test_asks_its_own_server_without_a_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        with serve() as server:
            server.routes["/health"] = content(b'{"model_class": "SAM3"}', "application/json")
            assert doctor._is_ours(Settings(port=int(server.base.rpartition(":")[2])))

    def test_advises_credentials_on_an_open_port(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HOST", "0.0.0.0")  # noqa: S104
        assert cli.main(["doctor"]) == 0
        assert "BASIC_AUTH_USER" in capsys.readouterr().out


class TestWarm:
    def test_asks_label_studio_for_no_more_of_a_task_than_its_picture_takes(self) -> None:
        config = """<View><Image name="i" value="$image"/>
          <BrushLabels name="b" toName="i"><Label value="car"/></BrushLabels></View>"""
        tasks = [{"id": number, "data": {"image": f"{number}.png"}, "total_annotations": 1} for number in (1, 2)]
        asked: list[dict[str, Any]] = []
        prepared: list[str] = []

        def get(_path: str, **query: Any) -> Any:
            asked.append(query)
            return {"tasks": tasks, "total": len(tasks)}

        parts = SimpleNamespace(
            segmenter=SimpleNamespace(prepare=lambda location, _terms: prepared.append(location)),
            store=SimpleNamespace(statistics=lambda: StoreStatistics(made=2), flush=lambda: None),
        )
        access = SimpleNamespace(api=lambda _: SimpleNamespace(get=get), locate=lambda uri, **_: uri)
        project = Project(7, "City", LabelConfig.parse(config), tasks=2)
        assert warm._warm(project, parts, access) == 0  # type: ignore[arg-type]
        assert sorted(prepared) == ["1.png", "2.png"]
        assert [(each["project"], each["include"]) for each in asked] == [(7, "id,data,total_annotations")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__.rpartition(".")[2].rstrip("_"))
def test_every_command_has_help(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command.__name__.rpartition(".")[2].rstrip("_"), "--help"])
    assert ended.value.code == 0
    assert "usage: sam3-backend" in capsys.readouterr().out


def test_no_command_or_an_unknown_one_is_wrong_usage() -> None:
    usage_error()
    usage_error("dance")


def test_serve_lists_every_setting() -> None:
    described = describe_settings()
    assert all(name.upper() in described for name in Settings.model_fields)


def test_bad_settings_end_a_command_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "none")
    monkeypatch.setenv("DTYPE", "int4")
    assert cli.main(["serve"]) == 1
    told = capsys.readouterr().err
    assert "PORT" in told
    assert "DTYPE" in told
