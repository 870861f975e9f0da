"""The full-size network beside the plain transformers way of doing the same, in one run on one machine.

    python -m benchmarks.full_size [--device cuda] [--dtype float16] [--clock cpu] [--json FILE]

Writes a random checkpoint of the published dimensions in both published layouts (7 GB, in ``--scratch`` or a temporary
folder), then measures loading, every stage, and what an annotator does. "Plain" is transformers as its documentation
uses it: processor, model, post-processing, one prompt after another, a second model for clicks. Every measurement runs
in a process of its own, so that peaks of memory do not mix. Both ways of loading take turns, and the
median of each counts: on a virtual machine, memory that its host has taken back costs the first process that touches it
several times what it costs the next. Runs unchanged on CUDA.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.full_size_checkpoint import folder_for, write_both_layouts
from benchmarks.isolation import alone
from benchmarks.report import Report, options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from sam3_backend.masks import Mask

MIB = 1024**2
PICTURE_HW = (1080, 1920)
LARGE_HW = (2160, 3840)
TEXTS = ("car", "red car", "person", "bicycle", "traffic light", "dog on a leash", "shop window", "tree")
MASKS = 50
LOADS = 3  # odd, for a median
PASSING = 10  # queries above the threshold; random weights have no natural number


class Clock:
    """Times work on a device.

    Args:
        device: Its queue is waited for.
        kind: "wall", or "cpu" for the processor time of all threads: steadier on a busy machine without GPU.
        repeats: The least of so many runs counts.
    """

    def __init__(self, device: str, kind: str, repeats: int) -> None:
        self._is_cuda = device.startswith("cuda")
        self._now = time.process_time if kind == "cpu" else time.perf_counter
        self._repeats = repeats

    def __call__(self, work: Callable[[], Any], repeats: int | None = None) -> float:
        """Seconds that ``work`` takes."""
        taken = []
        for _ in range(repeats or self._repeats):
            self._wait()
            start = self._now()
            work()
            self._wait()
            taken.append(self._now() - start)
        return min(taken)

    def _wait(self) -> None:
        if self._is_cuda:
            torch.cuda.synchronize()


def plain_load(files: Path, plan: argparse.Namespace) -> dict[str, float]:
    """Read a ``sam3.pt`` whole, build transformers' detector, copy the weights in; without the second model."""
    from transformers import Sam3Config, Sam3Model

    from sam3_backend.model.key_mapping import to_network_names

    def load() -> None:
        weights = to_network_names(torch.load(files / "sam3.pt", map_location="cpu", weights_only=True))
        detector, head = Sam3Model(Sam3Config()), "detector_model."
        detector.load_state_dict({k.removeprefix(head): v for k, v in weights.items() if k.startswith(head)})
        detector.to(plan.device, getattr(torch, plan.dtype)).eval()

    return {"load_s": Clock(plan.device, plan.clock, 1)(load), "peak_mib": _peak_rss_mib()}


def our_load(files: Path, plan: argparse.Namespace) -> dict[str, float]:
    """``Predictor.load`` of the same weights in Meta's layout."""
    from sam3_backend import Predictor

    loaded = []
    clock = Clock(plan.device, plan.clock, 1)
    taken = clock(lambda: loaded.append(Predictor.load(str(files / "sam3.pt"), device=plan.device, dtype=plan.dtype)))
    return {"load_s": taken, "peak_mib": _peak_rss_mib()}


def plain_prompts(files: Path, plan: argparse.Namespace) -> dict[str, float]:
    """A text and a click through transformers' own models and processors."""
    figures = {"text_s": _plain_text(files, plan), "click_s": _plain_click(files, plan)}
    return figures | {"peak_mib": _peak_rss_mib(), "peak_device_mib": _peak_device_mib(plan)}


def _plain_text(files: Path, plan: argparse.Namespace) -> float:
    from transformers import Sam3Model, Sam3Processor

    picture = _picture()
    model = Sam3Model.from_pretrained(files, dtype=getattr(torch, plan.dtype)).to(plan.device).eval()
    processor = Sam3Processor.from_pretrained(files)

    def text() -> None:
        inputs = processor(images=picture, text=TEXTS[0], return_tensors="pt").to(plan.device)
        sizes = inputs.pop("original_sizes")
        outputs = model(**inputs)
        scores = (outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid())[0].float()
        cut = float(scores.sort(descending=True).values[PASSING])
        processor.post_process_instance_segmentation(outputs, threshold=cut, target_sizes=sizes.tolist())

    with torch.inference_mode():
        return Clock(plan.device, plan.clock, plan.repeats)(text)


def _plain_click(files: Path, plan: argparse.Namespace) -> float:
    from transformers import Sam3ImageProcessor, Sam3TrackerModel, Sam3TrackerProcessor

    picture, dtype = _picture(), getattr(torch, plan.dtype)
    model = Sam3TrackerModel.from_pretrained(files, dtype=dtype).to(plan.device).eval()
    processor = Sam3TrackerProcessor(Sam3ImageProcessor.from_pretrained(files))

    def click() -> None:
        inputs = processor(images=picture, input_points=[[[[900, 500]]]], input_labels=[[[1]]], return_tensors="pt")
        sizes = inputs.pop("original_sizes")
        prompt = {name: inputs[name].to(plan.device) for name in ("pixel_values", "input_points", "input_labels")}
        prompt |= {name: value.to(dtype) for name, value in prompt.items() if value.is_floating_point()}
        outputs = model(**prompt)
        processor.post_process_masks(outputs.pred_masks.float().cpu(), sizes)

    with torch.inference_mode():
        return Clock(plan.device, plan.clock, plan.repeats)(click)


def our_prompts(files: Path, plan: argparse.Namespace) -> dict[str, float]:
    """What an annotator does, through the public API, and the stages behind it."""
    from sam3_backend import Predictor

    predictor = Predictor.load(str(files / "sam3.pt"), device=plan.device, dtype=plan.dtype)
    clock, picture, figures = Clock(plan.device, plan.clock, plan.repeats), _picture(), {}
    if plan.device != "cpu":
        predictor.warm_up()
    encoded: list[Any] = []
    figures["encode_s"] = clock(lambda: encoded.append(predictor.encode(picture)))
    embedding = encoded[-1]
    figures["embedding_mib"] = embedding.nbytes / MIB
    scores = [each.detection_score for each in predictor.detect(embedding, text=TEXTS[0], threshold=0.0).found]
    cut = scores[PASSING]

    def texts(wanted: tuple[str, ...], threshold: float = cut) -> None:
        for answer in predictor.detect_each(embedding, wanted, threshold=threshold):
            _draw(each.mask for each in answer.found)

    def click(**prompt: Any) -> None:
        _draw(predictor.segment(embedding, **prompt).masks)

    predictor.make_room()
    figures["first_text_s"] = clock(partial(texts, TEXTS[:1]), repeats=1)
    figures["second_text_s"] = clock(partial(texts, TEXTS[1:2]), repeats=1)
    figures["same_text_s"] = clock(partial(texts, TEXTS[1:2]))
    figures["absent_text_s"] = clock(partial(texts, TEXTS[1:2], threshold=1.0))
    predictor.make_room()
    figures["eight_texts_s"] = clock(partial(texts, TEXTS), repeats=1)
    figures["first_click_s"] = clock(partial(click, points=[(900, 500)]), repeats=1)
    clicks = [(900, 500, 1), (300, 200, 0)]
    before = predictor.segment(embedding, points=clicks[:1]).mask_logits[0]
    several = max(5, plan.repeats)
    figures["further_click_s"] = clock(partial(click, points=clicks, mask_logits=before), repeats=several)
    figures["box_s"] = clock(partial(click, box=(300, 200, 900, 700)), repeats=several)
    return figures | {"peak_mib": _peak_rss_mib(), "peak_device_mib": _peak_device_mib(plan)}


def plain_masks(files: Path, plan: argparse.Namespace) -> dict[str, float]:
    """Memory that transformers' post-processing adds for 50 masks of a 4K picture, and its time."""
    from transformers import Sam3Processor
    from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

    processor = Sam3Processor.from_pretrained(files)
    logits = torch.full((1, 200), -8.0)
    logits[0, :MASKS] = 8.0
    outputs = Sam3ImageSegmentationOutput(
        pred_masks=torch.from_numpy(_mask_logits(200))[None],
        pred_boxes=torch.rand(1, 200, 4),
        pred_logits=logits,
        presence_logits=torch.full((1, 1), 8.0),
    )
    start = _reset_peak_rss()
    work = lambda: processor.post_process_instance_segmentation(outputs, threshold=0.5, target_sizes=[LARGE_HW])  # noqa: E731
    taken = Clock("cpu", plan.clock, 1)(work)
    return {"masks_s": taken, "added_mib": _peak_rss_mib() - start}


def our_masks(_files: Path, plan: argparse.Namespace) -> dict[str, float]:
    """The same with ours: 50 masks kept."""
    from sam3_backend.model.postprocessing import to_mask

    logits = _mask_logits(MASKS)
    start = _reset_peak_rss()
    kept: list[Any] = []
    taken = Clock("cpu", plan.clock, 1)(lambda: kept.extend(to_mask(each, LARGE_HW) for each in logits))
    return {"masks_s": taken, "added_mib": _peak_rss_mib() - start}


def _draw(masks: Iterable[Mask]) -> int:
    """Bring masks to the picture's size; they are drawn when they are read."""
    return sum(mask.area_px for mask in masks)


def _picture() -> np.ndarray:
    """(1080, 1920, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 255, (*PICTURE_HW, 3), dtype=np.uint8)


def _mask_logits(count: int) -> np.ndarray:
    """(count, 288, 288) float32: one ellipse each, up to a third of the picture."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:288, :288]
    centres, radii = random.uniform(40, 248, (count, 2)), random.uniform(8, 80, (count, 2))
    distance = [np.hypot((y - cy) / ry, (x - cx) / rx) for (cy, cx), (ry, rx) in zip(centres, radii, strict=True)]
    return (5 * (1 - np.stack(distance))).clip(-8, 8).astype(np.float32)


def _peak_rss_mib() -> float:
    """Most memory of this process so far, since the last reset where the system has one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) / 1024 for line in status.open() if line.startswith("VmHWM"))


def _reset_peak_rss() -> float:
    """Memory of this process now, free heap given back, from where the peak is counted again."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_rss_mib()


def _peak_device_mib(plan: argparse.Namespace) -> float:
    return torch.cuda.max_memory_allocated() / MIB if plan.device.startswith("cuda") else 0.0


def _loads(files: Path, plan: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Both ways of loading in turns: the median run of each; all are printed."""
    works = (our_load, plain_load)
    turns = [{work.__name__: alone(plan.threads, work, files, plan) for work in works} for _ in range(LOADS)]
    print(*turns, sep="\n")
    ranked = {name: sorted((turn[name] for turn in turns), key=lambda run: run["load_s"]) for name in turns[0]}
    return {name: runs[LOADS // 2] for name, runs in ranked.items()}


def _report(measured: dict[str, dict[str, float]], plan: argparse.Namespace) -> Report:
    report = Report(f"Full size, {plan.device}, {plan.dtype}, {plan.clock} time", conditions=vars(plan) | measured)
    load, plain_loading = measured["our_load"], measured["plain_load"]
    ours, plain = measured["our_prompts"], measured["plain_prompts"]
    masks, plain_drawing = measured["our_masks"], measured["plain_masks"]
    for name, figures in measured.items():
        for figure, value in figures.items():
            quantity, _, unit = figure.rpartition("_")
            report.add(f"{name.replace('_', ' ')}: {quantity.replace('_', ' ')}", value, unit)
    report.add("ready to serve, plain / ours", plain_loading["load_s"] / load["load_s"], "x", least=5)
    report.add(
        "50 masks to 4K, added memory, ours / plain", masks["added_mib"] / plain_drawing["added_mib"], "x", most=0.2
    )
    report.add("50 masks to 4K, time, plain / ours", plain_drawing["masks_s"] / masks["masks_s"], "x")
    report.add("first text, plain / ours", plain["text_s"] / (ours["encode_s"] + ours["first_text_s"]), "x")
    report.add("second text, plain / ours", plain["text_s"] / ours["second_text_s"], "x", least=5)
    eight = ours["encode_s"] + ours["eight_texts_s"]
    report.add("8 texts with encoding, 8 x plain / ours", 8 * plain["text_s"] / eight, "x", least=4)
    report.add("first click after a text, plain / ours", plain["click_s"] / ours["first_click_s"], "x", least=20)
    report.add("further click, plain / ours", plain["click_s"] / ours["further_click_s"], "x", least=100)
    return report


def main() -> None:
    """Write the checkpoint, measure, report."""
    parser = options(__doc__ or "")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="1 is steady on a busy machine")
    parser.add_argument("--repeats", type=int, default=None, help="runs of which the least counts; 1 on a CPU")
    parser.add_argument("--scratch", type=Path, default=None, help="a folder to keep the checkpoint in")
    plan = parser.parse_args()
    is_cuda = plan.device.startswith("cuda")
    plan.dtype = plan.dtype or ("float16" if is_cuda else "float32")
    plan.repeats = plan.repeats or (5 if is_cuda else 1)
    json_path = plan.json
    with folder_for(plan.scratch) as scratch:
        plan.json, plan.scratch = str(plan.json), str(scratch)
        write_both_layouts(scratch)
        works = (our_masks, plain_masks, our_prompts, plain_prompts)
        measured = _loads(scratch, plan)
        measured |= {work.__name__: alone(plan.threads, work, scratch, plan) for work in works}
        _report(measured, plan).publish(json_path)


if __name__ == "__main__":
    main()
