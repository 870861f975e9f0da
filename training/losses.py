"""How wrong an answer is: masks, boxes, scores, and how large features grow.

Pure functions of answers and truth. Knows nothing of how prompts are made or steps are taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.network import Network, grid_centres

if TYPE_CHECKING:
    from training.batches import Pictures, Prompts
    from training.wiring import Detections

Log = dict[str, float]


def to_cxcywh(boxes: Tensor) -> Tensor:
    """[..., 4] xyxy to cxcywh."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def to_xyxy(boxes: Tensor) -> Tensor:
    """[..., 4] cxcywh to xyxy."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Elementwise GIoU of xyxy boxes [..., 4] (Rezatofighi et al., 2019)."""
    inner = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    overlap = inner.prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - overlap + 1e-7
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    area = hull.prod(-1) + 1e-7
    return overlap / union - (area - union) / area


def mask_loss(logits: Tensor, cover: Tensor) -> Tensor:
    """Dice plus cross entropy summed over the cells and divided by about the object's size, so that small ones count.

    Args:
        logits: [..., L, L].
        cover: [..., L, L] in [0, 1], broadcastable to `logits`.

    Returns:
        [...].
    """
    size = cover.sum((-1, -2))
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * cover).sum((-1, -2)) + 1) / (chance.sum((-1, -2)) + size + 1)
    wrong = functional.binary_cross_entropy_with_logits(logits, cover.expand_as(logits), reduction="none").sum((-1, -2))
    return dice + wrong / (4 * size + 0.03 * logits.shape[-1] * logits.shape[-2])


def cell_iou(logits: Tensor, cover: Tensor) -> Tensor:
    """IoU [...] of thresholded masks on the low-resolution grid."""
    mask, truth = logits > 0, cover > 0.5
    return (mask & truth).sum((-1, -2)) / (mask | truth).sum((-1, -2)).clamp(min=1)


def assign(boxes: Tensor, valid: Tensor, queries: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which query answers for which target: the one whose grid cell is nearest, nearest pairs first.

    A fixed assignment, unlike the usual cost matching: "is it mine?" is a local rule from the first step on. Queries
    nearly as near as the owner are excused: they may answer or stay silent.

    Args:
        boxes: [N, M, 4] xyxy targets.
        valid: bool [N, M].
        queries: Q.

    Returns:
        int64 [n] each: prompt, query and target of every pair; bool [N, Q]: excused queries.
    """
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = (grid_centres(queries)[None, :, None] - centres[:, None]).square().sum(-1).sqrt()
    distance = distance.masked_fill(~valid[:, None], float("inf"))
    open_, pairs = distance.clone(), []
    rows = torch.arange(len(boxes))
    excused = torch.zeros(distance.shape[:2], dtype=torch.bool)
    for _ in range(int(valid.sum(1).max()) if len(valid) else 0):
        nearest, flat = open_.flatten(1).min(1)
        query, target = flat // valid.shape[1], flat % valid.shape[1]
        real = nearest.isfinite()
        pairs.append((rows[real], query[real], target[real]))
        near = distance[rows, :, target] < 1.3 * nearest[:, None]
        excused |= near & real[:, None]
        open_[rows, query] = float("inf")
        open_[rows, :, target] = float("inf")
    if not pairs:
        none = torch.zeros(0, dtype=torch.long)
        return none, none, none, excused
    prompt, query, target = (torch.cat(part) for part in zip(*pairs, strict=True))
    excused[prompt, query] = False
    return prompt, query, target, excused


def detection_loss(
    network: Network, found: Detections, pictures: Pictures, prompts: Prompts, masked: Tensor, log: Log
) -> Tensor:
    """All losses of the text and exemplar branch; `masked` as given to `wiring.detect`."""
    index, valid = _targets(prompts, pictures.boxes.shape[1])
    rows = prompts.picture[:, None]
    boxes = pictures.boxes[rows, index] * valid[..., None]
    pairs = assign(boxes, valid, found.logits.shape[-1])
    total = torch.zeros(())
    for depth in range(len(found.logits)):
        last = depth == len(found.logits) - 1
        loss = _layer_loss(found, depth, boxes, valid, pairs, log if last else {})
        total = total + (loss if last else 0.5 * loss)
    wanted = (pictures.cover[rows, index] * valid[..., None, None]).sum(1).clamp(max=1)
    # Dense help for the fusion: it must show where the targets are before the decoder can look there.
    there = network.concept_head(found.fused)[..., 0].float().unflatten(1, (network.sizes.grid, network.sizes.grid))
    dense = mask_loss(there, functional.avg_pool2d(wanted, 4)) * torch.where(valid.any(1), 1.0, 0.3)
    log["dense"] = float(dense.detach().mean())
    total = total + 3 * dense.mean()
    if found.masks is not None and found.semantic is not None and len(masked):
        total = total + _masks_loss(found, pictures, prompts, index, pairs, masked, log)
        total = total + 0.5 * mask_loss(found.semantic, wanted[masked]).mean()
    return total


def _targets(prompts: Prompts, slots: int) -> tuple[Tensor, Tensor]:
    """Instance index and validity [N, M] of each prompt's targets."""
    index = torch.zeros(len(prompts.targets), slots, dtype=torch.long)
    valid = torch.zeros(len(prompts.targets), slots, dtype=torch.bool)
    for i, targets in enumerate(prompts.targets):
        index[i, : len(targets)] = torch.tensor(targets, dtype=torch.long)
        valid[i, : len(targets)] = True
    return index, valid


def _layer_loss(
    found: Detections,
    depth: int,
    boxes: Tensor,
    valid: Tensor,
    pairs: tuple[Tensor, Tensor, Tensor, Tensor],
    log: Log,
) -> Tensor:
    prompt, query, target, excused = pairs
    present, count = valid.any(1).float(), max(1, len(prompt))
    own, truth = found.boxes[depth][prompt, query], boxes[prompt, target]
    distance = (own - to_cxcywh(truth)).abs().sum() / count
    overlap = generalised_iou(to_xyxy(own), truth)
    logits = found.logits[depth]
    wanted = torch.zeros_like(logits)
    wanted[prompt, query] = 1.0
    # The presence score does most of the work for absent concepts; sure negatives count little.
    weight = torch.where(present[:, None] > 0, 1.0, 0.25) * (~excused)
    focus = torch.where(wanted > 0, 1.0, logits.sigmoid().detach().clamp(min=0.02).sqrt())
    mistakes = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    score = (mistakes * weight * focus).sum() / count
    presence = functional.binary_cross_entropy_with_logits(found.presence[depth], present)
    log |= {
        "boxl1": float(distance.detach()),
        "giou": float(overlap.detach().mean()) if len(overlap) else 0.0,
        "score": float(score.detach()),
        "presence": float(((found.presence[depth] > 0) == (present > 0)).float().mean()),
    }
    return 5 * distance + 2 * (1 - overlap).sum() / count + 3 * score + 2 * presence


def _masks_loss(
    found: Detections,
    pictures: Pictures,
    prompts: Prompts,
    index: Tensor,
    pairs: tuple[Tensor, Tensor, Tensor, Tensor],
    masked: Tensor,
    log: Log,
) -> Tensor:
    prompt, query, target, _ = pairs
    place = torch.full((len(index),), -1)
    place[masked] = torch.arange(len(masked))
    held = place[prompt] >= 0
    if found.masks is None or not held.any():
        return torch.zeros(())
    prompt, query, target = prompt[held], query[held], target[held]
    logits = found.masks[place[prompt], query]
    cover = pictures.cover[prompts.picture[prompt], index[prompt, target]]
    log["mask"] = float(cell_iou(logits, cover).mean())
    return 2 * mask_loss(logits, cover).mean()


def scale_loss(features: list[Tensor]) -> Tensor:
    """Holds feature maps at a root mean square of at most 2: larger ones make attention over the image one-hot."""
    excess = [(feature.float().square().mean().sqrt() - 2).clamp(min=0).square() for feature in features]
    return 0.05 * torch.stack(excess).sum()
