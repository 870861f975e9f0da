"""Clicks, timed in three ways: asked of a server over HTTP, of the bare decoder, and as other backends answer them.

Knows neither which checkpoint is measured nor what the times should be.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import requests
import torch
from label_studio_sdk.converter import brush

from benchmarks.picture_host import LABEL_CONFIG, drawing, keypoint, request_body
from sam3_backend.images import decode_picture
from sam3_backend.label_studio import rle
from sam3_backend.model.clicks import CLICK_FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from benchmarks.report import Report
    from examples.studio.pictures import Drawing
    from sam3_backend import Predictor

UNCOUNTED = 3
"""Runs before those that count: what happens once only happens in these."""


def timed(work: Callable[[], object], times: int, *, uncounted: int = UNCOUNTED) -> list[float]:
    """Seconds of each of so many runs, after a few that do not count."""
    for _ in range(uncounted):
        work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def bare_decoder_s(predictor: Predictor, file: bytes, times: int) -> list[float]:
    """Seconds of the decoder alone, on the threads that it is given in a server: tensors in, logits out."""
    features = _click_features(predictor, file)
    device = features[0].device
    points = torch.tensor([[[200.0, 200.0]]], device=device) * predictor.input_size_px / 1008
    labels = torch.ones(1, 1, dtype=torch.int64, device=device)

    def decode() -> None:
        logits, _ = predictor._network.tracker_model([features], [(points, labels)], multimask=True)  # noqa: SLF001
        logits.cpu()  # waits for a GPU

    with torch.inference_mode(), predictor.pace.clicking():
        return timed(decode, times)


def transformers_decoder_s(predictor: Predictor, file: bytes, times: int) -> list[float]:
    """Seconds of the same, by transformers' own modules in their own order, on all threads."""
    features = [each.float() for each in _click_features(predictor, file)]
    head, device = predictor._network.tracker_model, features[0].device  # noqa: SLF001
    head.mask_decoder.config._attn_implementation = "sdpa"  # noqa: SLF001  as its own models set it
    grid = features[-1].shape[-1]
    points = torch.tensor([[[[200.0, 200.0]]]], device=device) * predictor.input_size_px / 1008
    labels = torch.ones(1, 1, 1, dtype=torch.int64, device=device)

    def decode() -> None:
        steps = (torch.arange(grid, device=device) + 0.5) / grid
        positions = head.shared_image_embedding(torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1))
        prompt, dense = head.prompt_encoder(points, labels, None, None)
        logits, *_ = head.mask_decoder(
            image_embeddings=features[-1],
            image_positional_embeddings=positions.permute(2, 0, 1)[None],
            sparse_prompt_embeddings=prompt,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=features[:-1],
        )
        logits.cpu()

    with torch.inference_mode():
        return timed(decode, times)


def _click_features(predictor: Predictor, file: bytes) -> list[torch.Tensor]:
    embedding = predictor.encode(decode_picture(file, max_pixels=10**8).rgb)
    return [cast("torch.Tensor", embedding.tensors[name]) for name in CLICK_FEATURES]


def usual_pattern(
    predictor: Predictor, host: str, times: int, *, mask_threshold: float = 0.5, uncounted: int = UNCOUNTED
) -> list[float]:
    """What the example backends do at each click, without the HTTP around it: download, encode, decode, SDK RLE."""

    def click() -> None:
        data = requests.get(f"{host}/data/upload/1/0.jpg", timeout=10).content
        embedding = predictor.encode(decode_picture(data, max_pixels=10**8).rgb)
        answer = predictor.segment(embedding, points=[(430, 420)], mask_threshold=mask_threshold)
        json.dumps(brush.mask2rle(answer.masks[0].to_array().astype(np.uint8) * 255))

    return timed(click, times, uncounted=uncounted)


def spots_on(seed: int, count: int) -> list[dict[str, Any]]:
    """Places to click at, no two alike, all on the red circle of one picture."""
    picture = drawing(seed)
    (x, y), radius = picture.shapes[0].centre_xy_px, picture.shapes[0].radius_px
    rng = np.random.default_rng(seed)
    spots = []
    for _ in range(count):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7) * radius
        x_px, y_px = x + reach * np.cos(angle), y + reach * np.sin(angle)
        spots.append(keypoint(100 * x_px / picture.width_px, 100 * y_px / picture.height_px))
    return spots


def clicks_on(seed: int, count: int, config: str = LABEL_CONFIG) -> list[bytes]:
    """Requests for single clicks at such places."""
    return [request_body([f"{seed}.jpg"], [spot], config) for spot in spots_on(seed, count)]


def report_clicks(
    report: Report,
    seconds: Sequence[float],
    decoder_s: Sequence[float],
    *,
    most_ms: float | None = None,
    p99_most_ms: float | None = None,
) -> None:
    """Add what cached clicks took over HTTP, and what of it is not the decoder."""
    beyond_ms = 1000 * (np.array(seconds) - statistics.median(decoder_s))
    report.add("cached click over HTTP, median", 1000 * statistics.median(seconds), "ms")
    report.add("cached click over HTTP, p99", 1000 * float(np.percentile(seconds, 99)), "ms")
    report.add("… beyond the decoder, median", float(np.median(beyond_ms)), "ms", most=most_ms)
    report.add("… beyond the decoder, p99", float(np.percentile(beyond_ms, 99)), "ms", most=p99_most_ms)


def brush_stream(answer: bytes) -> list[int]:
    """The ``ls_rle`` of the brush region in an answer to one task; empty where there is none."""
    regions = json.loads(answer)["results"][0]["result"]
    return next((each["value"]["rle"] for each in regions if each["type"] == "brushlabels"), [])


def answered_mask(answer: bytes, picture: Drawing) -> npt.NDArray[np.bool_]:
    """The mask in an answer to one task, (height, width) bool of the picture."""
    stream = brush_stream(answer)
    if not stream:
        return np.zeros((picture.height_px, picture.width_px), np.bool_)
    return rle.decode(stream, picture.width_px, picture.height_px)
