"""An exemplar should say to the detector what its colour and shape would say in words.

Knows boxes, the geometry encoder and the names of kinds. Knows nothing of detections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.losses import Log, to_cxcywh
from training.vocabulary import COLOURS, SHAPES

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

    from training.batches import Pictures
    from training.network import Network

SHARPNESS = 12.0
"""Factor on the cosines of the contrastive part."""


def likeness_loss(
    network: Network, coarse: Tensor, pictures: Pictures, tokenizer: CLIPTokenizer, most: int, log: Log
) -> Tensor:
    """Compares the tokens of single exemplar boxes, of instances of any kind, with the last text tokens of names.

    Two parts: the squared distance to the own kind's token ("red circle") relative to that token's size, and the cross
    entropy of picking the own kind among all of them by cosine.

    Args:
        network: the model; the text tower gets no gradient.
        coarse: [B, width, G, G], the detector's coarse features (`Views.detector[-1]`).
        pictures: B pictures.
        tokenizer: for the names.
        most: how many instances to compare.
        log: gets both parts and how often the own kind is picked.
    """
    rows, slots = torch.nonzero(pictures.shape >= 0, as_tuple=True)
    chosen = torch.randperm(len(rows))[:most]
    if not len(chosen):
        return torch.zeros(())
    rows, slots = rows[chosen], slots[chosen]
    own = exemplar_tokens(network, coarse, rows, pictures.boxes[rows, slots])
    said = _names(network, tokenizer)
    kind = pictures.shape[rows, slots] * len(COLOURS) + pictures.colour[rows, slots]
    distance = (own - said[kind]).square().mean() / said.square().mean()
    middle = said.mean(0)
    cosines = functional.normalize(own - middle, dim=-1) @ functional.normalize(said - middle, dim=-1).T
    choice = functional.cross_entropy(SHARPNESS * cosines, kind)
    right = (cosines.argmax(-1) == kind).float().mean()
    log |= {"likeness": float(distance.detach()), "choice": float(choice.detach()), "picked": float(right)}
    return 2 * distance + 0.5 * choice


def exemplar_tokens(network: Network, coarse: Tensor, rows: Tensor, boxes: Tensor) -> Tensor:
    """The geometry encoder's token of each box, drawn by hand (each edge up to 6 % off), as its own prompt.

    Args:
        network: the model.
        coarse: [B, width, G, G].
        rows: int64 [N], the picture of each box.
        boxes: [N, 4] xyxy in fractions of the sides.

    Returns:
        float [N, width].
    """
    model = network.detector
    sides = torch.cat([boxes[:, 2:] - boxes[:, :2]] * 2, -1)
    drawn = to_cxcywh((boxes + (torch.rand_like(boxes) * 2 - 1) * 0.06 * sides).clamp(0, 1))
    position = model.vision_encoder.neck.position_encoding(
        torch.Size((1, *coarse.shape[1:])), coarse.device, torch.float32
    )
    ones = torch.ones(len(rows), 1, dtype=torch.long)
    with torch.autocast("cpu", enabled=False):
        encoded = model.geometry_encoder(
            box_embeddings=drawn[:, None],
            box_mask=ones.bool(),
            box_labels=ones,
            img_feats=[coarse[rows].float()],
            img_pos_embeds=[position.expand(len(rows), -1, -1, -1)],
        )
    return encoded.last_hidden_state[:, 0].float()  # type: ignore[no-any-return]


@torch.no_grad()
def _names(network: Network, tokenizer: CLIPTokenizer) -> Tensor:
    """The last text token of every kind's name: float [shapes * colours, width]."""
    coded = tokenizer([f"{colour} {shape}" for shape in SHAPES for colour in COLOURS], return_tensors="pt")
    return network.detector.get_text_features(**coded).pooler_output[:, -1].float()
