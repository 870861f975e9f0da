"""Scenes and concepts as tensors: what one training step looks at.

Knows the tensors' layout. Knows neither the model nor the losses.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from training.concepts import Attributes, Box, Concept, exemplar_concept, text_concept
from training.shapes import Scene, Settings, draw
from training.vocabulary import COLOURS, SHAPES

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from transformers import CLIPTokenizer

MAX_INSTANCES = 12
MAX_EXEMPLARS = 3
TEXT_TOKENS = 10
"""Phrases are padded to this many tokens in training, for static shapes."""
PADDING = -10
"""Label of an exemplar slot that holds no box, as in transformers."""


@dataclass(frozen=True)
class Pictures:
    """B pictures and their truth, at most M instances each.

    Attributes:
        pixels: float [B, 3, S, S] in [-1, 1], RGB.
        cover: float [B, M, L, L] in [0, 1]: how much of each low-resolution cell the instance's visible mask fills.
        boxes: float [B, M, 4], xyxy in fractions of the sides; zeros where there is no instance.
        shape: int64 [B, M], index into SHAPES, -1 where there is no instance.
        colour: int64 [B, M], index into COLOURS, -1 where there is no instance.
        attributes: per picture, (shape, colour) names.
    """

    pixels: Tensor
    cover: Tensor
    boxes: Tensor
    shape: Tensor
    colour: Tensor
    attributes: tuple[Attributes, ...]


@dataclass(frozen=True)
class Prompts:
    """N concept prompts over the pictures of a batch.

    Attributes:
        picture: int64 [N], which picture each asks about.
        token_ids: int64 [N, T].
        token_mask: bool [N, T], True for real tokens.
        boxes: float [N, K, 4], exemplars as cxcywh in fractions of the sides.
        labels: int64 [N, K], 1 like this, 0 not like this, PADDING none.
        targets: per prompt, indices of the instances to find.
    """

    picture: Tensor
    token_ids: Tensor
    token_mask: Tensor
    boxes: Tensor
    labels: Tensor
    targets: tuple[tuple[int, ...], ...]


def draw_pictures(seeds: Sequence[int], settings: Settings, raster_px: int, low_res: int) -> Pictures:
    """Draws one picture per seed; `raster_px` must be a multiple of no particular number, `low_res` is L."""
    return to_pictures([draw(seed, settings, raster_px) for seed in seeds], low_res)


def to_pictures(scenes: Sequence[Scene], low_res: int) -> Pictures:
    """Stacks square scenes of one size."""
    count, side = len(scenes), scenes[0].image.shape[0]
    pixels = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
    cover = torch.zeros(count, MAX_INSTANCES, low_res, low_res)
    boxes = torch.zeros(count, MAX_INSTANCES, 4)
    shape = torch.full((count, MAX_INSTANCES), -1)
    colour = torch.full((count, MAX_INSTANCES), -1)
    shares = _cell_shares(side, low_res)
    for i, scene in enumerate(scenes):
        masks = torch.from_numpy(np.stack([m.mask for m in scene.instances])) if scene.instances else None
        for j, instance in enumerate(scene.instances[:MAX_INSTANCES]):
            boxes[i, j] = torch.tensor(instance.box) / side
            shape[i, j], colour[i, j] = SHAPES.index(instance.shape), COLOURS.index(instance.colour)
        if masks is not None:
            held = masks[:MAX_INSTANCES].float()
            cover[i, : len(held)] = shares @ held @ shares.T
    attributes = tuple(tuple((m.shape, m.colour) for m in scene.instances[:MAX_INSTANCES]) for scene in scenes)
    scaled = pixels.contiguous(memory_format=torch.channels_last).float().div_(127.5).sub_(1)
    return Pictures(scaled, cover, boxes, shape, colour, attributes)


@functools.cache
def _cell_shares(pixels: int, cells: int) -> Tensor:
    """Float [cells, pixels]: which share of each cell each pixel takes, along one axis."""
    edges = torch.arange(cells + 1) * (pixels / cells)
    start, end = torch.arange(pixels), torch.arange(1, pixels + 1)
    overlap = torch.minimum(end[None], edges[1:, None]) - torch.maximum(start[None], edges[:-1, None])
    return overlap.clamp(min=0) * (cells / pixels)


def ask(
    rng: random.Random, tokenizer: CLIPTokenizer, pictures: Pictures, texts: int = 3, exemplars: int = 1
) -> Prompts:
    """`texts` phrases and `exemplars` exemplar prompts about each picture, grouped by picture."""
    asked: list[tuple[int, Concept]] = []
    for i, attributes in enumerate(pictures.attributes):
        edges: list[Box] = [tuple(box) for box in pictures.boxes[i].tolist()]
        asked += [(i, text_concept(rng, attributes)) for _ in range(texts)]
        asked += [(i, exemplar_concept(rng, attributes, edges)) for _ in range(exemplars)]
    return to_prompts(tokenizer, asked)


def to_prompts(tokenizer: CLIPTokenizer, asked: Sequence[tuple[int, Concept]]) -> Prompts:
    """Stacks (picture index, concept) pairs."""
    coded = tokenizer(
        [concept.text for _, concept in asked],
        return_tensors="pt",
        padding="max_length",
        truncation=True,
        max_length=TEXT_TOKENS,
    )
    boxes = torch.zeros(len(asked), MAX_EXEMPLARS, 4)
    labels = torch.full((len(asked), MAX_EXEMPLARS), PADDING)
    for i, (_, concept) in enumerate(asked):
        for j, ((x1, y1, x2, y2), label) in enumerate(concept.exemplars[:MAX_EXEMPLARS]):
            boxes[i, j] = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
            labels[i, j] = label
    return Prompts(
        torch.tensor([i for i, _ in asked]),
        coded["input_ids"],
        coded["attention_mask"].bool(),
        boxes,
        labels,
        tuple(concept.targets for _, concept in asked),
    )
