"""``sam3-backend segment``: masks of one picture file, without any server.

Coordinates on this command line are pixels of the upright picture.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import BackendError, ImageError, InvalidPrompt
from sam3_backend.prompts import Box, Exemplar, Point, PromptSet
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    from sam3_backend.answer import Answer
    from sam3_backend.images import Picture
    from sam3_backend.masks import ScoredMask


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "segment",
        help="find objects in one picture",
        description="Find objects in one picture. Texts and exemplars find every instance of what they name; points "
        "and a box together find the one object they touch. Coordinates are pixels of the upright picture.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="picture file")
    prompts = parser.add_argument_group("prompts (at least one)")
    prompts.add_argument("--text", action="append", default=[], metavar="T", help="what to find, a noun phrase")
    prompts.add_argument("--point", action="append", default=[], type=_pair, metavar="X,Y", help="on the object")
    prompts.add_argument(
        "--negative-point", action="append", default=[], type=_pair, metavar="X,Y", help="beside the object"
    )
    prompts.add_argument("--box", type=_quadruple, metavar="X1,Y1,X2,Y2", help="around the object")
    prompts.add_argument(
        "--exemplar", action="append", default=[], type=_quadruple, metavar="X1,Y1,X2,Y2", help="find all like this"
    )
    prompts.add_argument(
        "--negative-exemplar", action="append", default=[], type=_quadruple, metavar="X1,Y1,X2,Y2", help="but not these"
    )
    parser.add_argument("--threshold", type=_fraction, metavar="F", help="least detection score, 0 to 1")
    parser.add_argument("--checkpoint", metavar="C", help="hub id, directory, sam3.pt or demo [MODEL_CHECKPOINT]")
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps [DEVICE]")
    dtypes = ("auto", "float32", "bfloat16", "float16")
    parser.add_argument("--dtype", choices=dtypes, metavar="T", help=f"{', '.join(dtypes)} [DTYPE]")
    parser.add_argument("--overlay", type=Path, metavar="out.png", help="write the picture with what was found")
    parser.add_argument("--json", metavar="out.json", help="write what was found; - for standard output")
    return parser


def run(options: argparse.Namespace) -> int:
    """Find, and write what was found.

    Raises:
        InvalidPrompt: The prompts cannot be answered.
        ImageError: The file is not a picture that can be read.
        BackendError: The result cannot be written.
        CheckpointError: The checkpoint cannot be used.
        SettingsError: A setting cannot be used.
    """
    given = {"model_checkpoint": options.checkpoint, "device": options.device, "dtype": options.dtype}
    settings = Settings.from_environment(**{name: value for name, value in given.items() if value is not None})
    picture, read_ms = _read(options.image, settings)
    prompt_sets = _prompt_sets(options, picture.width_px, picture.height_px)

    from sam3_backend.answer import AnswerOptions
    from sam3_backend.composition import compose

    began = time.perf_counter()
    parts = compose(settings)
    load_ms = 1000 * (time.perf_counter() - began)
    # All points are given at once, so there is no mask from before the last one to refine.
    wanted = AnswerOptions(threshold=options.threshold, refine=False)
    answer = parts.segmenter.answer_picture(picture, prompt_sets, options=wanted)
    timings_ms = {"load": load_ms, "read": read_ms, **answer.timings_ms}
    _write(options, picture, answer, parts.predictor.name, timings_ms)
    _tell(answer, parts.predictor.name, parts.demo_notice, is_json_on_stdout=options.json == "-")
    return 0


def describe(answer: Answer, checkpoint: str, timings_ms: dict[str, float]) -> dict[str, Any]:
    """An answer as the JSON that ``--json`` writes."""
    return {
        "image": {"width": answer.width_px, "height": answer.height_px},
        "checkpoint": checkpoint,
        "timings_ms": {stage: round(ms, 3) for stage, ms in timings_ms.items()},
        "regions": [_region(each) for each in answer.found],
    }


def _region(each: ScoredMask) -> dict[str, Any]:
    from sam3_backend.label_studio import rle

    return {
        "label": each.label,
        "score": each.score,
        "box_xyxy": list(each.mask.box_xyxy_px),
        "area_px": each.mask.area_px,
        "ls_rle": rle.encode_mask(each.mask),
        "coco_rle": rle.encode_coco(each.mask),
    }


def _read(path: Path, settings: Settings) -> tuple[Picture, float]:
    """The picture, and how many milliseconds reading it took."""
    from sam3_backend.images import decode_picture

    began = time.perf_counter()
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ImageError(f"{path} cannot be read: {fault.strerror}.") from fault
    picture = decode_picture(data, max_pixels=settings.image_max_pixels)
    return picture, 1000 * (time.perf_counter() - began)


def _prompt_sets(options: argparse.Namespace, width_px: int, height_px: int) -> list[PromptSet]:
    """One set for each text, one for exemplars without a text, one for all points and the box."""
    points = tuple(
        Point(x / width_px, y / height_px, is_positive)
        for given, is_positive in ((options.point, True), (options.negative_point, False))
        for x, y in given
    )
    exemplars = tuple(
        Exemplar(_box(each, width_px, height_px), is_positive)
        for given, is_positive in ((options.exemplar, True), (options.negative_exemplar, False))
        for each in given
    )
    if exemplars and len(options.text) > 1:
        raise InvalidPrompt("Exemplars belong to one text: name one --text with them, or none.")
    prompt_sets = [PromptSet(text=text, exemplars=exemplars, label=text) for text in options.text]
    if exemplars and not options.text:
        prompt_sets.append(PromptSet(exemplars=exemplars))
    box = _box(options.box, width_px, height_px) if options.box else None
    if points or box:
        prompt_sets.append(PromptSet(points=points, box=box))
    if not prompt_sets:
        raise InvalidPrompt("Say what to find: --text, --point, --box or --exemplar.")
    return prompt_sets


def _box(xyxy_px: tuple[float, ...], width_px: int, height_px: int) -> Box:
    x1, y1, x2, y2 = xyxy_px
    return Box(x1 / width_px, y1 / height_px, x2 / width_px, y2 / height_px)


def _write(
    options: argparse.Namespace, picture: Picture, answer: Answer, checkpoint: str, timings_ms: dict[str, float]
) -> None:
    try:
        if options.json:
            text = json.dumps(describe(answer, checkpoint, timings_ms)) + "\n"
            if options.json == "-":
                sys.stdout.write(text)
            else:
                Path(options.json).write_text(text, encoding="utf-8")
        if options.overlay:
            from PIL import Image

            from sam3_backend.overlay import draw

            Image.fromarray(draw(picture.rgb, answer.found)).save(options.overlay)
    except (OSError, ValueError) as fault:  # ValueError: a file name that ends like no kind of picture
        raise BackendError(f"The result cannot be written: {fault}.") from fault


def _tell(answer: Answer, checkpoint: str, notice: str | None, *, is_json_on_stdout: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=is_json_on_stdout, highlight=False)
    table = Table("label", "score", "box x1, y1, x2, y2", "area in px")
    for each in answer.found:
        corners = ", ".join(str(corner) for corner in each.mask.box_xyxy_px)
        table.add_row(each.label or "", f"{each.score:.3f}", corners, f"{each.mask.area_px:,}")
    if answer.found:
        console.print(table)
    console.print(
        f"{len(answer.found)} found by {checkpoint} in {answer.width_px} x {answer.height_px} px", markup=False
    )
    if notice:
        Console(stderr=True).print(notice, style="yellow", markup=False)


def _numbers(text: str, count: int, shape: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise argparse.ArgumentTypeError(f"{text!r} is not {shape} in pixels")
    return numbers


def _pair(text: str) -> tuple[float, ...]:
    return _numbers(text, 2, "X,Y")


def _quadruple(text: str) -> tuple[float, ...]:
    return _numbers(text, 4, "X1,Y1,X2,Y2")


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value
