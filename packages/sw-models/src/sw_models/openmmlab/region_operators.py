"""Functions of MMCV's compiled module on regions and boxes, by PyTorch and torchvision, on CPUs and GPUs.

They have MMCV's signatures: results are written to tensors that the caller made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


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


def deform_roi_pool_forward(input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, **settings: Any) -> None:
    """Write averages in the moved cells of regions (deformable RoI pooling, Dai et al. 2017, arXiv 1703.06211).

    Args:
        input: ``[B, C, H, W]``.
        rois: ``[K, 5]``: image, x1, y1, x2, y2.
        offset: ``[K, 2, height, width]``, x before y, in shares of a region's sides times ``gamma``; may be empty.
        output: ``[K, C, height, width]``, is written.
        **settings: pooled_height, pooled_width, spatial_scale, sampling_ratio and gamma.
    """
    output.copy_(_moved_averages(input, rois, offset, **settings))


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    **settings: Any,
) -> None:
    """Write the gradients to the maps and to the offsets."""
    differentiate(
        lambda maps, moves: _moved_averages(maps, rois, moves, **settings),
        (input, offset), grad_output, (grad_input, grad_offset),
    )  # fmt: skip


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


def differentiate(
    function: Callable[..., Tensor], given: Sequence[Tensor], upstream: Tensor, gradients: Sequence[Tensor]
) -> None:
    """Write the gradients of a function to tensors.

    Args:
        function: of ``given``.
        given: where it is differentiated.
        upstream: the gradient to what it returns.
        gradients: are written, one for each given.
    """
    with torch.enable_grad():
        inputs = [one.detach().requires_grad_() for one in given]
        found = torch.autograd.grad(function(*inputs), inputs, upstream, allow_unused=True)
    for gradient, value in zip(gradients, found, strict=True):
        gradient.copy_(torch.zeros_like(gradient) if value is None else value)


def _moved_averages(
    maps: Tensor,
    rois: Tensor,
    offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    pooled = [maps.new_zeros(0, maps.shape[1], pooled_height, pooled_width)]
    for index, roi in enumerate(rois):
        left, top, right, bottom = (roi[1:] * spatial_scale - 0.5).tolist()
        y = _samples(top, bottom, pooled_height, sampling_ratio, maps)[:, None, :, None]
        x = _samples(left, right, pooled_width, sampling_ratio, maps)[None, :, None, :]
        if offset.numel():
            x = x + gamma * (right - left) * offset[index, 0][..., None, None]
            y = y + gamma * (bottom - top) * offset[index, 1][..., None, None]
        points = _interpolated(maps[int(roi[0])], *torch.broadcast_tensors(y, x))
        pooled.append(points.sum((-2, -1))[None] / max(y.shape[2] * x.shape[3], 1))
    return torch.cat(pooled)


def _samples(start: float, end: float, cells: int, sampling_ratio: int, like: Tensor) -> Tensor:
    """Return the places that are averaged in each cell of a side, ``[cells, samples]``."""
    count = sampling_ratio if sampling_ratio > 0 else max(math.ceil((end - start) / cells), 0)
    within = (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / max(count, 1)
    cell = torch.arange(cells, dtype=like.dtype, device=like.device)[:, None]
    return start + (cell + within) * (end - start) / cells


def _interpolated(maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return bilinear values ``[C, ...]`` of maps ``[C, H, W]``; 0 more than a pixel outside."""
    height, width = maps.shape[1:]
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    above, left = y.detach().floor().long(), x.detach().floor().long()
    below, right = (above + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = y - above, x - left
    upper = maps[:, above, left] * (1 - across) + maps[:, above, right] * across
    lower = maps[:, below, left] * (1 - across) + maps[:, below, right] * across
    return (upper * (1 - down) + lower * down) * inside


def _overlaps(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """Return intersections over unions of a box with others."""
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset).clamp(min=0)
    shared = sides.prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    return shared / ((box[2:] - box[:2] + offset).prod() + areas - shared)
