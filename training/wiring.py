"""The official forward passes of SAM 3 over transformers' modules, written for training.

The same maths as the package's predictor (a test holds the two together), but all layers' answers come out, fine
feature levels are computed for part of the batch only, and gradients flow. Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.batches import PADDING, Prompts

if TYPE_CHECKING:
    from training.network import Network

PRESENCE_LIMIT = 10.0


@dataclass(frozen=True)
class Views:
    """What the image encoder sees.

    Attributes:
        tokens: [B, G*G, C], the encoder's output.
        detector: three levels [*, width, 4G | 2G | G, same]; the finer two of the first `masked` pictures only.
        tracker: the click decoder's three feature maps, of the last `clicked` pictures only.
    """

    tokens: Tensor
    detector: list[Tensor]
    tracker: list[Tensor]


@dataclass(frozen=True)
class Detections:
    """Answers of the D decoder layers to N prompts, Q queries each.

    Attributes:
        fused: [N, G*G, width], image tokens after the fusion with the prompt.
        boxes: [D, N, Q, 4], cxcywh in fractions of the sides.
        logits: [D, N, Q], detection logits before the presence score.
        presence: [D, N], presence logits.
        masks: [n, Q, 4G, 4G] mask logits of the prompts chosen by `masked`, or None.
        semantic: [n, 4G, 4G] logits of "part of any target", or None.
    """

    fused: Tensor
    boxes: Tensor
    logits: Tensor
    presence: Tensor
    masks: Tensor | None
    semantic: Tensor | None


def view(network: Network, pixels: Tensor, masked: int, clicked: int, leak: float = 1.0) -> Views:
    """Encodes pictures.

    Args:
        network: the model.
        pixels: [B, 3, S, S] in [-1, 1].
        masked: how many pictures, from the front, get the detector's fine levels.
        clicked: how many, from the back, get the click decoder's features.
        leak: share of the heads' gradient that reaches the image encoder.
    """
    count, grid = len(pixels), network.sizes.grid
    tokens = network.detector.vision_encoder.backbone(pixels).last_hidden_state
    pushed = tokens if leak == 1.0 else tokens.detach() + leak * (tokens - tokens.detach())
    plane = pushed.transpose(1, 2).reshape(count, -1, grid, grid).contiguous(memory_format=torch.channels_last)
    fine, middle, coarse = network.detector.vision_encoder.neck.fpn_layers[:3]
    detector = [fine(plane[:masked]), middle(plane[:masked]), coarse(plane)] if masked else [coarse(plane)]
    tracker: list[Tensor] = []
    if clicked:
        levels = [layer(plane[count - clicked :]) for layer in network.tracker.vision_encoder.neck.fpn_layers[:3]]
        decoder, none_yet = network.tracker.mask_decoder, network.tracker.no_memory_embedding
        tracker = [decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1]), levels[2] + none_yet.view(1, -1, 1, 1)]
    return Views(tokens, detector, tracker)


def detect(network: Network, levels: list[Tensor], prompts: Prompts, masked: Tensor | None = None) -> Detections:
    """Text and exemplar prompts, official wiring: the geometry encoder's CLS token is always there.

    Args:
        network: the model.
        levels: `Views.detector`.
        prompts: N prompts.
        masked: int64 [n], indices of the prompts to make masks for, or None for none.
    """
    model, coarse = network.detector, levels[-1][prompts.picture]
    one = (1, *coarse.shape[1:])
    position = model.vision_encoder.neck.position_encoding(torch.Size(one), coarse.device, torch.float32)
    position = position.expand(len(coarse), -1, -1, -1)
    text = model.get_text_features(input_ids=prompts.token_ids, attention_mask=prompts.token_mask).pooler_output
    with torch.autocast("cpu", enabled=False):
        geometry = model.geometry_encoder(
            box_embeddings=prompts.boxes,
            box_mask=prompts.labels != PADDING,
            box_labels=prompts.labels.clamp(min=0),
            img_feats=[coarse.float()],
            img_pos_embeds=[position],
        )
    asked = torch.cat([text, geometry.last_hidden_state.to(text.dtype)], 1)
    valid = torch.cat([prompts.token_mask, geometry.attention_mask], 1)
    fused = model.detr_encoder(
        vision_features=[coarse], text_features=asked, vision_pos_embeds=[position], text_mask=valid
    )
    with torch.autocast("cpu", enabled=False):
        # In bfloat16 the decoder's gradients are mostly rounding: its attention weights hang on small differences.
        image, said = fused.last_hidden_state.float(), fused.text_features.float()
        decoded = model.detr_decoder(
            vision_features=image,
            text_features=said,
            vision_pos_encoding=fused.pos_embeds_flattened.float(),
            text_mask=valid,
            spatial_shapes=fused.spatial_shapes,
        )
        states = decoded.intermediate_hidden_states
        start = decoded.reference_boxes.clamp(1e-3, 1 - 1e-3)
        boxes = (torch.logit(start) + model.detr_decoder.box_head(states)).sigmoid()
        logits = model.dot_product_scoring(decoder_hidden_states=states, text_features=said, text_mask=valid).squeeze(
            -1
        )
    masks = semantic = None
    if masked is not None:
        answer = model.mask_decoder(
            decoder_queries=states[-1][masked],
            backbone_features=[level[prompts.picture[masked]] for level in levels],
            encoder_hidden_states=fused.last_hidden_state[masked],
            prompt_features=asked[masked],
            prompt_mask=valid[masked],
        )
        masks, semantic = answer.pred_masks.float(), answer.semantic_seg[:, 0].float()
    presence = decoded.presence_logits[..., 0].float()
    return Detections(fused.last_hidden_state, boxes, logits.float(), presence, masks, semantic)


@dataclass(frozen=True)
class Clicks:
    """Prompts for P objects in each of B pictures, in the encoder's pixels.

    Attributes:
        points: [B, P, K, 2] (x, y), or None.
        labels: int64 [B, P, K], 1 on the object, 0 off it, or None.
        boxes: [B, P, 4] xyxy, or None.
        logits: [B, P, 4G, 4G] of an earlier answer, or None.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    logits: Tensor | None = None


def segment(network: Network, features: list[Tensor], clicks: Clicks) -> tuple[Tensor, Tensor, Tensor]:
    """The click decoder, with all four of its masks.

    Args:
        network: the model.
        features: `Views.tracker`.
        clicks: prompts for the same pictures.

    Returns:
        Mask logits [B, P, 4, 4G, 4G] (first the single mask, then the three of an ambiguous click), predicted IoU
        [B, P, 4] and object logits [B, P].
    """
    count, objects = (clicks.points if clicks.points is not None else clicks.boxes).shape[:2]  # type: ignore[union-attr]
    if clicks.logits is not None and objects > 1:
        # One dense prompt an object: the objects move into the batch.
        wide = [feature.repeat_interleave(objects, 0) for feature in features]
        parts = (clicks.points, clicks.labels, clicks.boxes, clicks.logits)
        folded = Clicks(*(None if x is None else x.reshape(count * objects, 1, *x.shape[2:]) for x in parts))
        masks, quality, there = segment(network, wide, folded)
        return tuple(x.reshape(count, objects, *x.shape[2:]) for x in (masks, quality, there))  # type: ignore[return-value]
    return _decode(network, features, clicks, objects)


def _decode(network: Network, features: list[Tensor], clicks: Clicks, objects: int) -> tuple[Tensor, Tensor, Tensor]:
    tracker, decoder = network.tracker, network.tracker.mask_decoder
    sparse, dense = tracker.prompt_encoder(
        input_points=clicks.points, input_labels=clicks.labels, input_boxes=clicks.boxes, input_masks=clicks.logits
    )
    own = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])
    count = features[2].shape[0]
    tokens = torch.cat([own.repeat(count, objects, 1, 1), sparse], 2)
    image = (features[2] + dense).repeat_interleave(objects, 0)
    position = tracker.get_image_wide_positional_embeddings().expand(count * objects, -1, -1, -1)
    tokens, image = decoder.transformer(
        point_embeddings=tokens, image_embeddings=image, image_positional_embeddings=position, attention_similarity=None
    )
    width, grid = features[2].shape[1], network.sizes.grid
    plane = image.transpose(2, 3).reshape(count * objects, width, grid, grid)
    fine, middle = (feature.repeat_interleave(objects, 0) for feature in features[:2])
    middle = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(plane) + middle))
    fine = decoder.activation(decoder.upscale_conv2(middle) + fine)
    kernels = torch.stack([mlp(tokens[:, :, 2 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 2)
    masks = (kernels @ fine.reshape(count, objects, fine.shape[1], -1)).reshape(count, objects, 4, 4 * grid, 4 * grid)
    quality = decoder.iou_prediction_head(tokens[:, :, 1])
    there = decoder.pred_obj_score_head(tokens[:, :, 0])[..., 0]
    return masks.float(), quality.float(), there.float()
