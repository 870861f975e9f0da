"""From Meta's parameter names to the network's: the table behind reading a ``sam3.pt``.

Names and shapes only; knows no files. The network's names are transformers'.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VIT = r"detector\.backbone\.vision_backbone\.trunk\."
_NECK = r"detector\.backbone\.vision_backbone\."
_TEXT = r"detector\.backbone\.language_backbone\."
_OUR_VIT = "detector_model.vision_encoder.backbone."
_OUR_TEXT = "detector_model.text_encoder.text_model."
_DECODER = "detector_model.detr_decoder."
_GAUSSIAN = "tracker_model.shared_image_embedding.positional_embedding"

_UNUSED = re.compile(
    # Rotary tables that are recomputed, point prompts that the text head never had, and the video memory.
    r".*\.freqs_cis$|detector\.geometry_encoder\.points_|"
    r"tracker\.(transformer\.|maskmem_|mask_downsample\.|obj_ptr|no_mem_pos_enc$|no_obj)"
)

_SECTIONS = (
    (_VIT + r"pos_embed$", _OUR_VIT + "embeddings.position_embeddings"),
    (_VIT + r"patch_embed\.proj\.", _OUR_VIT + "embeddings.patch_embeddings.projection."),
    (_VIT + r"ln_pre\.", _OUR_VIT + "layer_norm."),
    (_VIT + r"blocks\.(\d+)\.attn\.", _OUR_VIT + r"layers.\1.attention."),
    (_VIT + r"blocks\.(\d+)\.norm", _OUR_VIT + r"layers.\1.layer_norm"),
    (_VIT + r"blocks\.(\d+)\.mlp\.", _OUR_VIT + r"layers.\1.mlp."),
    (_NECK + r"convs\.", "detector_model.vision_encoder.neck.fpn_layers."),
    (_NECK + r"sam2_convs\.", "tracker_neck.fpn_layers."),
    (_TEXT + r"resizer\.", "detector_model.text_projection."),
    (_TEXT + r"encoder\.text_projection$", "detector_model.text_encoder.text_projection.weight"),
    (_TEXT + r"encoder\.positional_embedding$", _OUR_TEXT + "embeddings.position_embedding.weight"),
    (_TEXT + r"encoder\.token_embedding\.", _OUR_TEXT + "embeddings.token_embedding."),
    (_TEXT + r"encoder\.ln_final\.", _OUR_TEXT + "final_layer_norm."),
    (_TEXT + r"encoder\.transformer\.resblocks\.(\d+)\.attn\.", _OUR_TEXT + r"encoder.layers.\1.self_attn."),
    (_TEXT + r"encoder\.transformer\.resblocks\.(\d+)\.ln_", _OUR_TEXT + r"encoder.layers.\1.layer_norm"),
    (_TEXT + r"encoder\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", _OUR_TEXT + r"encoder.layers.\1.mlp.fc1."),
    (_TEXT + r"encoder\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", _OUR_TEXT + r"encoder.layers.\1.mlp.fc2."),
    (r"detector\.geometry_encoder\.encode\.(\d+)\.", r"detector_model.geometry_encoder.layers.\1."),
    (r"detector\.geometry_encoder\.img_pre_norm\.", "detector_model.geometry_encoder.vision_layer_norm."),
    (r"detector\.geometry_encoder\.norm\.", "detector_model.geometry_encoder.prompt_layer_norm."),
    (r"detector\.geometry_encoder\.encode_norm\.", "detector_model.geometry_encoder.output_layer_norm."),
    (r"detector\.geometry_encoder\.", "detector_model.geometry_encoder."),
    (r"detector\.transformer\.encoder\.", "detector_model.detr_encoder."),
    (r"detector\.transformer\.decoder\.norm\.", _DECODER + "output_layer_norm."),
    (r"detector\.transformer\.decoder\.presence_token_head\.layers\.", _DECODER + "presence_head.layer#"),
    (r"detector\.transformer\.decoder\.presence_token_out_norm\.", _DECODER + "presence_layer_norm."),
    (r"detector\.transformer\.decoder\.bbox_embed\.layers\.", _DECODER + "box_head.layer#"),
    (r"detector\.transformer\.decoder\.ref_point_head\.layers\.", _DECODER + "ref_point_head.layer#"),
    (r"detector\.transformer\.decoder\.boxRPB_embed_([xy])\.layers\.", _DECODER + r"box_rpb_embed_\1.layer#"),
    (r"detector\.transformer\.decoder\.", _DECODER),
    (r"detector\.dot_prod_scoring\.prompt_mlp\.layers\.", "detector_model.dot_product_scoring.text_mlp.layer#"),
    (r"detector\.dot_prod_scoring\.prompt_mlp\.out_norm\.", "detector_model.dot_product_scoring.text_mlp_out_norm."),
    (r"detector\.dot_prod_scoring\.prompt_proj\.", "detector_model.dot_product_scoring.text_proj."),
    (r"detector\.dot_prod_scoring\.hs_proj\.", "detector_model.dot_product_scoring.query_proj."),
    (r"detector\.segmentation_head\.mask_predictor\.mask_embed\.", "detector_model.mask_decoder.mask_embedder."),
    (r"detector\.segmentation_head\.instance_seg_head\.", "detector_model.mask_decoder.instance_projection."),
    (r"detector\.segmentation_head\.semantic_seg_head\.", "detector_model.mask_decoder.semantic_projection."),
    (r"detector\.segmentation_head\.cross_attend_prompt\.", "detector_model.mask_decoder.prompt_cross_attn."),
    (r"detector\.segmentation_head\.cross_attn_norm\.", "detector_model.mask_decoder.prompt_cross_attn_norm."),
    (r"detector\.segmentation_head\.", "detector_model.mask_decoder."),
    (r"tracker\.no_mem_embed$", "tracker_model.no_memory_embedding"),
    (r"tracker\.sam_prompt_encoder\.pe_layer\.\w+_matrix$", _GAUSSIAN),
    (r"tracker\.sam_prompt_encoder\.", "tracker_model.prompt_encoder."),
    (r"tracker\.sam_mask_decoder\.", "tracker_model.mask_decoder."),
)  # fmt: skip
"""First match wins; ``#`` stands before an index that counts from one in the network."""

_LOCAL = (
    (r"(fpn_layers\.\d+)\.dconv_2x2_0\.", r"\1.scale_layers.0."),
    (r"(fpn_layers\.\d+)\.dconv_2x2_1\.", r"\1.scale_layers.2."),
    (r"(fpn_layers\.\d+)\.dconv_2x2\.", r"\1.scale_layers.0."),
    (r"(fpn_layers\.\d+)\.conv_1x1\.", r"\1.proj1."),
    (r"(fpn_layers\.\d+)\.conv_3x3\.", r"\1.proj2."),
    (r"(backbone\.layers\.\d+\.attention)\.proj\.", r"\1.o_proj."),
    (r"((?:detr_\w+|geometry_encoder)\.layers\.\d+)\.linear([12])\.", r"\1.mlp.fc\2."),
    (r"((?:detr_encoder|geometry_encoder)\.layers\.\d+)\.norm([123])\.", r"\1.layer_norm\2."),
    (r"((?:detr_encoder|geometry_encoder)\.layers\.\d+)\.cross_attn_image\.", r"\1.cross_attn."),
    (r"(detr_decoder\.layers\.\d+)\.norm1\.", r"\1.vision_cross_attn_layer_norm."),
    (r"(detr_decoder\.layers\.\d+)\.norm2\.", r"\1.self_attn_layer_norm."),
    (r"(detr_decoder\.layers\.\d+)\.norm3\.", r"\1.mlp_layer_norm."),
    (r"(detr_decoder\.layers\.\d+)\.catext_norm\.", r"\1.text_cross_attn_layer_norm."),
    (r"(detr_decoder\.layers\.\d+)\.ca_text\.", r"\1.text_cross_attn."),
    (r"(detr_decoder\.layers\.\d+)\.cross_attn\.", r"\1.vision_cross_attn."),
    (r"(tracker_model\.mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"(tracker_model\.mask_decoder\.transformer\.layers\.\d+\.mlp)\.lin1\.", r"\1.proj_in."),
    (r"(tracker_model\.mask_decoder\.transformer\.layers\.\d+\.mlp)\.lin2\.", r"\1.proj_out."),
    (r"(tracker_model\.mask_decoder\.transformer)\.norm_final_attn\.", r"\1.layer_norm_final_attn."),
    (r"(tracker_model\.mask_decoder\.\w+(?:\.\d)?)\.layers\.0\.(weight|bias)$", r"\1.proj_in.\2"),
    (r"(tracker_model\.mask_decoder\.\w+(?:\.\d)?)\.layers\.1\.(weight|bias)$", r"\1.layers.0.\2"),
    (r"(tracker_model\.mask_decoder\.\w+(?:\.\d)?)\.layers\.2\.(weight|bias)$", r"\1.proj_out.\2"),
    (r"(tracker_model\.mask_decoder)\.output_upscaling\.0\.", r"\1.upscale_conv1."),
    (r"(tracker_model\.mask_decoder)\.output_upscaling\.1\.", r"\1.upscale_layer_norm."),
    (r"(tracker_model\.mask_decoder)\.output_upscaling\.3\.", r"\1.upscale_conv2."),
    (r"(tracker_model\.prompt_encoder)\.mask_downscaling\.0\.", r"\1.mask_embed.conv1."),
    (r"(tracker_model\.prompt_encoder)\.mask_downscaling\.1\.", r"\1.mask_embed.layer_norm1."),
    (r"(tracker_model\.prompt_encoder)\.mask_downscaling\.3\.", r"\1.mask_embed.conv2."),
    (r"(tracker_model\.prompt_encoder)\.mask_downscaling\.4\.", r"\1.mask_embed.layer_norm2."),
    (r"(tracker_model\.prompt_encoder)\.mask_downscaling\.6\.", r"\1.mask_embed.conv3."),
    (r"^(?!detector_model\.text_encoder)(.*)\.out_proj\.", r"\1.o_proj."),
)

_STACKED = re.compile(r"(?:\.qkv\.|\.in_proj_)(weight|bias)$")
_POINT = re.compile(r"tracker_model\.prompt_encoder\.point_embeddings\.(\d)\.weight$")


def to_network_names(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a ``sam3.pt`` under the network's names.

    Args:
        published: By Meta's names, ``detector.*`` and ``tracker.*``.

    Returns:
        Views wherever possible. A name that is not known is kept as it is, for the error that will name it.
    """
    named: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    for name, tensor in published.items():
        if is_unused(name):
            continue
        ours = network_name(name)
        point = _POINT.match(ours)
        if point:
            points[int(point[1])] = tensor
        else:
            named.update(_converted(ours, tensor))
    if points:
        stacked = torch.cat([points[index] for index in sorted(points)])
        named["tracker_model.prompt_encoder.point_embed.weight"] = stacked
    return named


def is_unused(name: str) -> bool:
    """Whether one of Meta's tensors serves video, or follows from the dimensions, and is not read."""
    return _UNUSED.match(name) is not None


def network_name(name: str) -> str:
    """The network's name for one of Meta's; unchanged where there is none."""
    for pattern, replacement in _SECTIONS:
        renamed, hits = re.subn("^" + pattern, replacement, name)
        if hits:
            break
    else:
        return name
    renamed = re.sub(r"#(\d+)", lambda index: str(int(index[1]) + 1), renamed)
    for pattern, replacement in _LOCAL:
        renamed = re.sub(pattern, replacement, renamed)
    return renamed


def _converted(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One published tensor as the network keeps it: whole, split in three, transposed, or shortened."""
    stacked = _STACKED.search(name)
    if stacked and tensor.shape[0] % 3 == 0:
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{name[: stacked.start()]}.{letter}_proj.{stacked[1]}", part
    elif name == "detector_model.text_encoder.text_projection.weight":
        yield name, tensor.t()
    elif name == _OUR_VIT + "embeddings.position_embeddings":
        yield name, tensor[:, 1:]  # the first row belonged to a CLS token that the backbone does not have
    elif name == _GAUSSIAN:
        yield name, tensor
        yield "tracker_model.prompt_encoder.shared_embedding.positional_embedding", tensor
    else:
        yield name, tensor
