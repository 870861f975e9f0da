"""Simulated annotators: where they click, and how wrong the click decoder's answers are.

Knows masks on the low-resolution grid and `wiring.segment`. Knows nothing of texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.losses import Log, cell_iou, mask_loss
from training.wiring import Clicks, segment

if TYPE_CHECKING:
    import random

    from training.batches import Pictures
    from training.network import Network

LOGIT_LIMIT = 32.0
"""Logits of an earlier answer are clamped to this before they are fed back, as officially."""


def pick(weight: Tensor) -> Tensor:
    """A random place in each map.

    Args:
        weight: [..., L, L], not negative.

    Returns:
        [..., 2], (x, y) in fractions of the sides.
    """
    side = weight.shape[-1]
    cell = torch.multinomial(weight.reshape(-1, side * side) + 1e-9, 1)[:, 0]
    corner = torch.stack([cell % side, cell // side], -1)
    return ((corner + torch.rand(len(cell), 2)) / side).reshape(*weight.shape[:-2], 2)


def inside(cover: Tensor) -> Tensor:
    """Where one clicks to mean an object: well covered cells, or the best there are."""
    best = cover >= 0.999 * cover.amax((-1, -2), keepdim=True)
    return (cover > 0.95).float() + 0.02 * (cover > 0.6) + 1e-3 * best


def outside(cover: Tensor, others: Tensor) -> Tensor:
    """Where one clicks to exclude: just outside, on other objects, rarely anywhere else."""
    grown = functional.max_pool2d(cover.flatten(0, -3)[:, None], 9, 1, 4)[:, 0].reshape(cover.shape)
    return ((grown > 0.5) & (cover < 0.05)).float() + 0.5 * (others > 0.9) * (cover < 0.05) + 0.02 * (cover < 0.05)


def click_loss(
    network: Network, features: list[Tensor], pictures: Pictures, rng: random.Random, objects: int, log: Log
) -> Tensor:
    """Clicks, boxes and corrections on `objects` objects a picture.

    Args:
        network: the model.
        features: `Views.tracker` of the same pictures.
        pictures: B pictures.
        rng: decides how many clicks, and whether boxes come with one.
        objects: P; half are clicked, half boxed.
        log: gets the mean IoU of each kind.
    """
    alive = pictures.shape >= 0
    chosen = torch.multinomial(alive.float() + 1e-6 * (~alive.any(1, keepdim=True)), objects, replacement=True)
    rows, half = torch.arange(len(chosen))[:, None], objects // 2
    cover, real = pictures.cover[rows, chosen], alive.gather(1, chosen).float()
    others = (pictures.cover.sum(1, keepdim=True) - cover).clamp(0, 1)
    clicked = cover[:, :half], others[:, :half], real[:, :half]
    total, clicks, masks = _first_clicks(network, features, pictures, clicked, rng, log)
    total = total + _corrections(network, features, clicked, clicks, masks, rng, log)
    boxes = pictures.boxes[rows, chosen[:, half:]]
    return total + _boxes(network, features, (cover[:, half:], others[:, half:], real[:, half:]), boxes, rng, log)


def _pixels(places: Tensor, network: Network) -> Tensor:
    """Fractions to the encoder's pixels, with the half pixel that the prompt encoder adds taken off, more or less."""
    return places * network.sizes.image_px - 0.5 * torch.rand(places.shape)


def _first_clicks(
    network: Network,
    features: list[Tensor],
    pictures: Pictures,
    truth: tuple[Tensor, Tensor, Tensor],
    rng: random.Random,
    log: Log,
) -> tuple[Tensor, Clicks, Tensor]:
    """One to three clicks; a few on empty background, to teach "there is no object"."""
    cover, others, real = truth
    background = (1 - pictures.cover.sum(1)).clamp(0, 1)[:, None].expand_as(cover)
    nothing = (torch.rand(cover.shape[:2]) < 0.06) & (background.amax((-1, -2)) > 0.98)
    points, labels = [], []
    for i in range(rng.choice([1, 1, 1, 2, 3])):
        positive = torch.ones(cover.shape[:2], dtype=torch.bool) if i == 0 else torch.rand(cover.shape[:2]) < 0.5
        where = torch.where(positive[..., None, None], inside(cover), outside(cover, others))
        where = torch.where((nothing & positive)[..., None, None], (background > 0.98).float(), where)
        points.append(_pixels(pick(where), network))
        labels.append(positive.long())
    clicks = Clicks(torch.stack(points, 2), torch.stack(labels, 2))
    answer = segment(network, features, clicks)
    single = len(points) > 1
    log["clicks" if single else "click"] = _quality(answer, cover, real * ~nothing, single)
    there = functional.binary_cross_entropy_with_logits(answer[2], (~nothing).float())
    return _answer_loss(answer, cover, real * ~nothing) + 0.3 * there, clicks, _shown(answer, single).detach()


def _corrections(
    network: Network,
    features: list[Tensor],
    truth: tuple[Tensor, Tensor, Tensor],
    clicks: Clicks,
    shown: Tensor,
    rng: random.Random,
    log: Log,
) -> Tensor:
    """A further click where the first answer is wrong, half of the time with that answer's logits."""
    count = max(1, len(shown) // 2)
    cover, others, real = (part[:count] for part in truth)
    shown, mask = shown[:count], (shown[:count] > 0).float()
    solid = (cover > 0.5).float()
    missed, spilt = solid * (1 - mask), mask * (1 - solid)
    share = torch.rand(2, *cover.shape[:2])
    add = missed.sum((-1, -2)) * 2 * share[0] >= spilt.sum((-1, -2)) * share[1]
    where = torch.where(add[..., None, None], missed + 1e-4 * inside(cover), spilt + 1e-4 * outside(cover, others))
    points = torch.cat([clicks.points[:count], _pixels(pick(where), network)[:, :, None]], 2)  # type: ignore[index]
    labels = torch.cat([clicks.labels[:count], add.long()[..., None]], 2)  # type: ignore[index]
    earlier = shown.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) if rng.random() < 0.6 else None
    answer = segment(network, [feature[:count] for feature in features], Clicks(points, labels, logits=earlier))
    log["fixed" if earlier is None else "refined"] = _quality(answer, cover, real, single=True)
    return _answer_loss(answer, cover, real)


def _boxes(
    network: Network,
    features: list[Tensor],
    truth: tuple[Tensor, Tensor, Tensor],
    boxes: Tensor,
    rng: random.Random,
    log: Log,
) -> Tensor:
    """A hand-drawn box, sometimes with one click."""
    cover, others, real = truth
    sides = torch.cat([boxes[..., 2:] - boxes[..., :2]] * 2, -1)
    drawn = (boxes + (torch.rand_like(boxes) * 2 - 1) * 0.06 * sides).clamp(0, 1) * network.sizes.image_px
    points = labels = None
    if rng.random() < 0.3:
        positive = torch.rand(cover.shape[:2]) < 0.6
        where = torch.where(positive[..., None, None], inside(cover), outside(cover, others))
        points, labels = _pixels(pick(where), network)[:, :, None], positive.long()[..., None]
    answer = segment(network, features, Clicks(points, labels, drawn))
    log["box"] = _quality(answer, cover, real, single=True)
    return _answer_loss(answer, cover, real)


def _shown(answer: tuple[Tensor, Tensor, Tensor], single: bool) -> Tensor:
    """The mask the annotator sees [B, P, L, L]: the single one, or the best of three by predicted IoU."""
    masks, quality, _ = answer
    if single:
        return masks[:, :, 0]
    best = 1 + quality[..., 1:].argmax(-1)
    return masks.gather(2, best[..., None, None, None].expand(-1, -1, 1, *masks.shape[-2:]))[:, :, 0]


def _quality(answer: tuple[Tensor, Tensor, Tensor], cover: Tensor, real: Tensor, single: bool) -> float:
    iou = cell_iou(_shown(answer, single).detach(), cover)
    return float((iou * real).sum() / real.sum().clamp(min=1))


def _answer_loss(answer: tuple[Tensor, Tensor, Tensor], cover: Tensor, real: Tensor) -> Tensor:
    """Single mask, best of three masks, and how well the model knows its own IoU."""
    masks, quality, there = answer
    weight = real / real.sum().clamp(min=1)
    wrong = mask_loss(masks, cover[:, :, None])
    three = wrong[..., 1:]
    mask = wrong[..., 0] + three.amin(-1) + 0.15 * three.mean(-1)
    reached = cell_iou(masks.detach(), cover[:, :, None])
    unsure = (quality - reached).square().sum(-1)
    missing = 0.05 * functional.binary_cross_entropy_with_logits(there, torch.ones_like(there), reduction="none")
    return ((mask + unsure + missing) * weight).sum()
