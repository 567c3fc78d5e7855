"""Functions of MMCV's compiled module by PyTorch and torchvision, on CPUs and GPUs.

They have MMCV's signatures: results are written to tensors that the caller made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **sizes: int
) -> None:
    """Write a deformable convolution (Dai et al. 2017, arXiv 1703.06211) to ``output``."""
    output.copy_(_deformed(input, weight, offset, **sizes))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Write the gradients to the input and to the offsets."""
    _differentiate(
        lambda x, o: _deformed(x, weight, o, **sizes), (input, offset), grad_output, (grad_input, grad_offset)
    )


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **sizes: int,
) -> None:
    """Write the gradient to the weight."""
    kernel = (sizes["kH"], sizes["kW"])
    weight = input.new_zeros(grad_weight.shape[:2] + kernel)
    _differentiate(lambda w: scale * _deformed(input, w, offset, **sizes), (weight,), grad_output, (grad_weight,))


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Write a modulated deformable convolution (Zhu et al. 2019, arXiv 1811.11168) to ``output``."""
    output.copy_(_modulated(input, weight, bias, offset, mask, **sizes))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **sizes: int,
) -> None:
    """Write the gradients to all that it depends on."""
    given, gradients = [input, weight, offset, mask], [grad_input, grad_weight, grad_offset, grad_mask]
    if sizes["with_bias"]:
        given.append(bias)
        gradients.append(grad_bias)
    _differentiate(lambda x, w, o, m, b=bias: _modulated(x, w, b, o, m, **sizes), given, grad_output, gradients)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the largest values in the cells of regions ``[K, 5]`` to ``output``, and where they are to ``argmax``."""
    found, places = torch.ops.torchvision.roi_pool(input, rois, spatial_scale, pooled_height, pooled_width)
    output.copy_(found)
    argmax.copy_(places)


def roi_pool_backward(grad_output: Tensor, rois: Tensor, argmax: Tensor, grad_input: Tensor, **sizes: float) -> None:
    """Add the gradient to where the largest values were."""
    channels, height, width = grad_input.shape[1:]
    images = rois[:, 0].long()[:, None, None, None]
    maps = torch.arange(channels, device=rois.device)[None, :, None, None] + images * channels
    inside = argmax >= 0
    places = (maps * height * width + argmax)[inside]
    grad_input.view(-1).index_add_(0, places, grad_output[inside])


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the focal loss (Lin et al. 2017, arXiv 1708.02002) of logits ``[N, C]``; class C is the background."""
    output.copy_(_sigmoid_focal(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write its derivative."""
    _differentiate(
        lambda x: _sigmoid_focal(x, target, weight, gamma, alpha), (input,), torch.ones_like(input), (grad_input,)
    )


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the focal loss ``[N]`` of probabilities ``[N, C]``; of a negative class it is 0."""
    output.copy_(_softmax_focal(input, target, weight, gamma, alpha).view_as(output))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write its derivative to the logits that ``input`` is the softmax of."""
    logits = input.clamp(min=torch.finfo(input.dtype).tiny).log()
    ones = input.new_ones(len(input))
    _differentiate(lambda x: _softmax_focal(x.softmax(1), target, weight, gamma, alpha), (logits,), ones, (grad_input,))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **sizes: int,
) -> None:
    """Write a content-aware reassembly of features (Wang et al. 2019, arXiv 1905.02188) to ``output``."""
    rfeatures.copy_(features)
    output.copy_(_reassembled(features, masks, **sizes))


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    **sizes: int,
) -> None:
    """Write the gradients to the features and to the masks."""
    _differentiate(lambda x, m: _reassembled(x, m, **sizes), (rfeatures, masks), grad_output, (grad_input, grad_masks))


def carafe_naive_forward(features: Tensor, masks: Tensor, output: Tensor, **sizes: int) -> None:
    """Write the same as :func:`carafe_forward`."""
    output.copy_(_reassembled(features, masks, **sizes))


def carafe_naive_backward(
    grad_output: Tensor, features: Tensor, masks: Tensor, grad_input: Tensor, grad_masks: Tensor, **sizes: int
) -> None:
    """Write the same as :func:`carafe_backward`."""
    _differentiate(lambda x, m: _reassembled(x, m, **sizes), (features, masks), grad_output, (grad_input, grad_masks))


def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, *, im2col_step: int
) -> Tensor:
    """Return multi-scale deformable attention (Zhu et al. 2021, arXiv 2010.04159), ``[B, Q, heads * D]``.

    Args:
        value: ``[B, sum of H * W, heads, D]``, the maps of all levels.
        shapes: H and W of each level.
        starts: where each level begins.
        locations: ``[B, Q, heads, levels, points, 2]``, x and y as shares of a map.
        weights: ``[B, Q, heads, levels, points]``.
        im2col_step: of the compiled function, which goes through images in steps.
    """
    images, _, heads, depth = value.shape
    sizes = shapes.tolist()
    seen = []
    for level, part in enumerate(value.split([height * width for height, width in sizes], dim=1)):
        maps = part.permute(0, 2, 3, 1).reshape(images * heads, depth, *sizes[level])
        places = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        seen.append(F.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False))
    factors = weights.transpose(1, 2).flatten(0, 1)[:, None]
    summed = (torch.stack(seen, dim=-2) * factors).sum(dim=(-2, -1))
    return summed.view(images, heads * depth, -1).transpose(1, 2).contiguous()


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
    *,
    im2col_step: int,
) -> None:
    """Write the gradients to the values, the places and the weights."""
    _differentiate(
        lambda v, p, w: ms_deform_attn_forward(v, shapes, starts, p, w, im2col_step=im2col_step),
        (value, locations, weights),
        grad_output,
        (grad_value, grad_locations, grad_weights),
    )


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    *,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Write boxes with lowered scores to ``dets`` ``[N, 5]``, best first, and return their indices.

    Soft-NMS (Bodla et al. 2017, arXiv 1704.04503).

    Args:
        boxes: ``[N, 4]``, corners.
        scores: ``[N]``.
        dets: the first rows are written.
        iou_threshold: of methods 0 and 1; boxes that overlap by less keep their scores.
        sigma: of method 2.
        min_score: boxes whose scores fall below are left out.
        method: 0 removes, 1 lowers linearly, 2 by a Gaussian.
        offset: 1 where the last pixel belongs to a box.
    """
    left = torch.arange(len(boxes))
    lowered = scores.clone()
    kept: list[int] = []
    while len(left):
        best = int(left[lowered[left].argmax()])
        dets[len(kept)] = torch.cat([boxes[best], lowered[best : best + 1]])
        kept.append(best)
        left = left[left != best]
        overlaps = _overlaps(boxes[best], boxes[left], offset)
        factor = {
            0: (overlaps < iou_threshold).to(scores.dtype),
            1: torch.where(overlaps >= iou_threshold, 1 - overlaps, torch.ones_like(overlaps)),
            2: (-overlaps.square() / sigma).exp(),
        }[method]
        lowered[left] *= factor
        left = left[lowered[left] >= min_score]
    return torch.tensor(kept, dtype=torch.int64)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return groups of boxes ``[N, 5]``: the best one, then those that it covers."""
    left = dets[:, 4].argsort(descending=True)
    groups = []
    while len(left):
        best, others = left[0], left[1:]
        covered = _overlaps(dets[best, :4], dets[others, :4], 0) >= iou_threshold
        groups.append([int(best), *others[covered].tolist()])
        left = others[~covered]
    return groups


def _differentiate(
    function: Callable[..., Tensor], given: Sequence[Tensor], upstream: Tensor, gradients: Sequence[Tensor]
) -> None:
    """Write the gradients of a function to tensors."""
    with torch.enable_grad():
        inputs = [one.detach().requires_grad_() for one in given]
        found = torch.autograd.grad(function(*inputs), inputs, upstream, allow_unused=True)
    for gradient, value in zip(gradients, found, strict=True):
        gradient.copy_(torch.zeros_like(gradient) if value is None else value)


def _deformed(input: Tensor, weight: Tensor, offset: Tensor, **sizes: int) -> Tensor:
    steps = [(sizes[f"{name}H"], sizes[f"{name}W"]) for name in ("d", "pad", "dilation")]
    return torchvision.ops.deform_conv2d(input, offset, weight, None, *steps)


def _modulated(input: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor, **sizes: int) -> Tensor:
    steps = [(sizes[f"{name}_h"], sizes[f"{name}_w"]) for name in ("stride", "pad", "dilation")]
    return torchvision.ops.deform_conv2d(input, offset, weight, bias if sizes["with_bias"] else None, *steps, mask)


def _sigmoid_focal(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    classes = torch.arange(logits.shape[1], device=logits.device)
    is_class = target[:, None] == classes
    probability = logits.sigmoid()
    positive = -alpha * (1 - probability) ** gamma * F.logsigmoid(logits)
    negative = -(1 - alpha) * probability**gamma * F.logsigmoid(-logits)
    loss = torch.where(is_class, positive, negative)
    return loss * _of_targets(weight, target)[:, None] if weight.numel() else loss


def _softmax_focal(probabilities: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    chosen = probabilities.gather(1, target.clamp(min=0)[:, None])[:, 0]
    loss = -alpha * (1 - chosen) ** gamma * chosen.clamp(min=torch.finfo(chosen.dtype).tiny).log()
    loss = torch.where(target >= 0, loss, torch.zeros_like(loss))
    return loss * _of_targets(weight, target) if weight.numel() else loss


def _of_targets(weight: Tensor, target: Tensor) -> Tensor:
    """Return the weight of each target's class; the background has 1."""
    return F.pad(weight, (0, 1), value=1.0)[torch.where(target < 0, len(weight), target.clamp(max=len(weight)))]


def _reassembled(features: Tensor, masks: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Return weighted sums of neighbors ``[N, C, s * H, s * W]``: each group of channels has weights of its own."""
    images, channels, height, width = features.shape
    around = F.unfold(features, kernel_size, padding=kernel_size // 2)
    around = around.view(images, group_size, channels // group_size, kernel_size**2, height, width)
    weights = masks.view(images, group_size, kernel_size**2, height, scale_factor, width, scale_factor)
    summed = torch.einsum("ngckhw,ngkhawb->ngchawb", around, weights)
    return summed.reshape(images, channels, height * scale_factor, width * scale_factor)


def _overlaps(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """Return intersections over unions of a box with others."""
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset).clamp(min=0)
    shared = sides.prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    return shared / ((box[2:] - box[:2] + offset).prod() + areas - shared)


OPERATORS: dict[str, Any] = {
    operator.__name__: operator
    for operator in (
        deform_conv_forward,
        deform_conv_backward_input,
        deform_conv_backward_parameters,
        modulated_deform_conv_forward,
        modulated_deform_conv_backward,
        roi_pool_forward,
        roi_pool_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
        softmax_focal_loss_forward,
        softmax_focal_loss_backward,
        carafe_forward,
        carafe_backward,
        carafe_naive_forward,
        carafe_naive_backward,
        ms_deform_attn_forward,
        ms_deform_attn_backward,
        softnms,
        nms_match,
    )
}

# What mmcv.ops of version 2.1 asks for when it is imported.
WANTED = {
    "active_rotated_filter_backward", "active_rotated_filter_forward", "assign_score_withk_backward",
    "assign_score_withk_forward", "ball_query_forward", "bbox_overlaps", "bezier_align_backward",
    "bezier_align_forward", "bias_act", "border_align_backward", "border_align_forward", "box_iou_quadri",
    "box_iou_rotated", "carafe_backward", "carafe_forward", "carafe_naive_backward", "carafe_naive_forward",
    "chamfer_distance_backward", "chamfer_distance_forward", "contour_expand", "convex_giou", "convex_iou",
    "correlation_backward", "correlation_forward", "deform_conv_backward_input",
    "deform_conv_backward_parameters", "deform_conv_forward", "deform_roi_pool_backward",
    "deform_roi_pool_forward", "diff_iou_rotated_sort_vertices_forward", "dynamic_point_to_voxel_backward",
    "dynamic_point_to_voxel_forward", "dynamic_voxelize_forward", "filtered_lrelu", "filtered_lrelu_act_",
    "furthest_point_sampling_forward", "furthest_point_sampling_with_dist_forward", "fused_bias_leakyrelu",
    "fused_indice_conv_forward", "gather_points_backward", "gather_points_forward", "get_compiler_version",
    "get_compiling_cuda_version", "get_indice_pairs_2d_backward", "get_indice_pairs_2d_forward",
    "get_indice_pairs_3d_backward", "get_indice_pairs_3d_forward", "get_indice_pairs_4d_forward",
    "group_points_backward", "group_points_forward", "hard_voxelize_forward", "indice_conv_backward",
    "indice_conv_forward", "indice_maxpool_backward", "indice_maxpool_forward", "iou3d_boxes_overlap_bev_forward",
    "iou3d_nms3d_forward", "iou3d_nms3d_normal_forward", "knn_forward", "masked_col2im_forward",
    "masked_im2col_forward", "min_area_polygons", "modulated_deform_conv_backward",
    "modulated_deform_conv_forward", "ms_deform_attn_backward", "ms_deform_attn_forward", "nms", "nms_match",
    "nms_quadri", "nms_rotated", "pixel_group", "points_in_boxes_all_forward", "points_in_boxes_cpu_forward",
    "points_in_boxes_part_forward", "points_in_polygons_forward", "prroi_pool_backward",
    "prroi_pool_coor_backward", "prroi_pool_forward", "psamask_backward", "psamask_forward",
    "riroi_align_rotated_backward", "riroi_align_rotated_forward", "roi_align_backward", "roi_align_forward",
    "roi_align_rotated_backward", "roi_align_rotated_forward", "roi_pool_backward", "roi_pool_forward",
    "roiaware_pool3d_backward", "roiaware_pool3d_forward", "roipoint_pool3d_forward",
    "rotated_feature_align_backward", "rotated_feature_align_forward", "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward", "softmax_focal_loss_backward", "softmax_focal_loss_forward", "softnms",
    "stack_ball_query_forward", "stack_group_points_backward", "stack_group_points_forward",
    "sync_bn_backward_data", "sync_bn_backward_param", "sync_bn_forward_mean", "sync_bn_forward_output",
    "sync_bn_forward_var", "three_interpolate_backward", "three_interpolate_forward", "three_nn_forward",
    "tin_shift_backward", "tin_shift_forward", "upfirdn2d",
}  # fmt: skip
