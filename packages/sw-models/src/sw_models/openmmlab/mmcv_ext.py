"""A stand-in for MMCV's compiled module, so that no compiler is needed to install a detector.

``mmcv-lite`` comes without ``mmcv._ext``, which MMDetection and MMSegmentation want at import. Detectors of boxes and
masks call three of its functions; others are in :mod:`.operators` and :mod:`.region_operators`. What has no stand-in
raises by name when called.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor

from sw_models.openmmlab import operators, region_operators

NAME = "mmcv._ext"

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
OPERATORS: dict[str, Callable[..., Any]] = {
    name: function
    for module in (operators, region_operators)
    for name, function in vars(module).items()
    if name in WANTED
}


def install() -> None:
    """Let ``import mmcv._ext`` find the stand-in where MMCV was not compiled; a compiled module wins."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.meta_path.append(_Finder())


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices ``[K]`` of the boxes ``[N, 4]`` that no better box covers, the best one first.

    Args:
        bboxes: corners x1, y1, x2, y2.
        scores: ``[N]``.
        iou_threshold: boxes that overlap by more are the same object.
        offset: 1 where the last pixel belongs to a box, so that its width is ``x2 - x1 + 1``.
    """
    if offset:
        bboxes = bboxes + bboxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(bboxes, scores, iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write averages of the maps ``[B, C, H, W]`` in regions ``[K, 5]`` to ``output``, ``[K, C, height, width]``."""
    _want_averages(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(torchvision.ops.roi_align(input, rois, size, spatial_scale, max(sampling_ratio, 0), aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient to the maps to ``grad_input``, ``[B, C, H, W]``."""
    _want_averages(pool_mode)
    with torch.enable_grad():
        maps = torch.zeros_like(grad_input).requires_grad_()
        size = (aligned_height, aligned_width)
        averages = torchvision.ops.roi_align(maps, rois, size, spatial_scale, max(sampling_ratio, 0), aligned)
    (gradient,) = torch.autograd.grad(averages, maps, grad_output)
    grad_input.copy_(gradient)


def _want_averages(pool_mode: int) -> None:
    if pool_mode != 1:
        _refuse("roi_align with pool_mode='max'")


def _refuse(function: str) -> NoReturn:
    raise NotImplementedError(f"mmcv._ext: {function} has no stand-in, a compiled mmcv is needed for it")


def _absent(function: str) -> Callable[..., NoReturn]:
    return lambda *_, **__: _refuse(function)


class _StandIn(ModuleType):
    """The module: functions that work, and an error for every other that MMCV knows once it is called."""

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in OPERATORS:
            return OPERATORS[name]
        if name not in WANTED:
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        return _absent(name)


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(NAME, self, origin=__name__) if fullname == NAME else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name, __doc__)

    def exec_module(self, module: ModuleType) -> None:
        pass
