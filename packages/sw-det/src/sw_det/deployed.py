"""Detectors in deployed form: an image in, its objects out, with every decision between the two inside.

What MMDetection's detectors do with one image, without what tracing cannot follow. An image is ``[1, 3, size, size]``,
RGB, normalised. Only objects with a higher score than ``threshold``, ``[1]``, from 0 to 1, are returned, best first:

    boxes   [N, 4], corners x1, y1, x2, y2 in pixels
    scores  [N]
    labels  [N], int64
    masks   probabilities of each object's pixels: [N, M, M] inside its box from a two-stage detector, [N, size, size]
            from a one-stage detector, and absent from detectors without masks
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

MAX_SCALING = -math.log(16 / 1000)  # of a box's side, in the exponent; MMDetection's, after Detectron


class DeployedTwoStage(nn.Module):
    """Faster R-CNN, Mask R-CNN (He et al. 2017, arXiv 1703.06870) or a cascade (Cai et al. 2019, arXiv 1906.09756).

    Args:
        detector: MMDetection's, with an ``RPNHead`` and a ``StandardRoIHead`` or ``CascadeRoIHead``.
        size: height and width of the image, in pixels.
    """

    def __init__(self, detector: Any, size: int) -> None:
        super().__init__()
        self.backbone, self.neck = detector.backbone, detector.neck
        self.rpn, self.roi_head = detector.rpn_head, detector.roi_head
        self.size = size
        self.anchors = nn.ParameterList(_grids(self.rpn.prior_generator, size))

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels and masks; see the top of this file."""
        settings = self.roi_head.test_cfg
        maps = self.neck(self.backbone(image))
        regions = self._propose(maps)
        (extractor, head), *later_stages = roi_stages(self.roi_head, "bbox")
        logits, deltas = head(_features(extractor, maps, regions))
        total = logits
        for extractor, next_head in later_stages:
            regions = self._decode(head, regions, _of_class(_by_class(deltas), logits[:, :-1].argmax(dim=1)))
            head = next_head
            logits, deltas = head(_features(extractor, maps, regions))
            total = total + logits
        every_score = (total / (1 + len(later_stages))).softmax(dim=1)[:, :-1]
        region, labels = (every_score > threshold).nonzero(as_tuple=True)
        scores = every_score[region, labels]
        boxes = self._decode(head, regions[region], _of_class(_by_class(deltas)[region], labels))
        keep = _best(boxes, scores, labels, settings, self.size)
        boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        masks = [
            _of_class(head(_features(extractor, maps, boxes)), labels).sigmoid()
            for extractor, head in roi_stages(self.roi_head, "mask")
        ]
        return (boxes, scores, labels, torch.stack(masks).mean(dim=0)) if masks else (boxes, scores, labels)

    def paste(self, mask: Tensor, box: Tensor) -> Tensor:
        """Return a mask ``[M, M]``, which is inside its box, as probabilities of all pixels, ``[size, size]``."""
        pixels = torch.arange(self.size) + 0.5
        (left, top), (right, bottom) = box[:2], box[2:]
        x, y = 2 * (pixels - left) / (right - left) - 1, 2 * (pixels - top) / (bottom - top) - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]

    def _propose(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Return the regions ``[K, 4]`` that may hold an object of any class."""
        settings = self.rpn.test_cfg
        boxes, scores, levels = [], [], []
        for level, (anchors, score_map, delta_map) in enumerate(zip(self.anchors, *self.rpn(maps), strict=True)):
            best, at = _by_point(score_map, 1)[:, 0].sigmoid().topk(min(settings.nms_pre, len(anchors)))
            boxes.append(self._decode(self.rpn, anchors[at], _by_point(delta_map, 4)[at]))
            scores.append(best)
            levels.append(torch.full_like(at, level))
        candidates, every_score, every_level = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        solid = _solid(candidates)
        candidates = candidates[solid]
        return candidates[_best(candidates, every_score[solid], every_level[solid], settings, self.size)]

    def _decode(self, head: Any, boxes: Tensor, deltas: Tensor) -> Tensor:
        """Return boxes that are moved and scaled, as R-CNN defines it, within the image."""
        coder = head.bbox_coder
        deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        centres = centres + sides * deltas[:, :2]
        sides = sides * deltas[:, 2:].clamp(-MAX_SCALING, MAX_SCALING).exp()
        return torch.cat([centres - sides / 2, centres + sides / 2], dim=1).clamp(0, self.size)


class DeployedOneStage(nn.Module):
    """RTMDet or RTMDet-Ins (Lyu et al. 2022, arXiv 2212.07784).

    Args:
        detector: MMDetection's ``RTMDet``.
        size: height and width of the image, in pixels.
    """

    def __init__(self, detector: Any, size: int) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = detector.backbone, detector.neck, detector.bbox_head
        self.size = size
        # x, y and the distance between points
        self.points = nn.ParameterList(_grids(self.head.prior_generator, size, with_stride=True))

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels and masks; see the top of this file."""
        settings = self.head.test_cfg
        score_maps, distance_maps, *of_masks = self.head(self.neck(self.backbone(image)))
        levels = []
        for level, (score_map, distance_map) in enumerate(zip(score_maps, distance_maps, strict=True)):
            every_score = _by_point(score_map, self.head.num_classes).sigmoid().flatten()
            scores, at = every_score.topk(min(settings.nms_pre, len(self.points[level]) * self.head.num_classes))
            where = at // self.head.num_classes
            distances, points = _by_point(distance_map, 4)[where], self.points[level][where]
            boxes = torch.cat([points[:, :2] - distances[:, :2], points[:, :2] + distances[:, 2:]], dim=1)
            found = [boxes.clamp(0, self.size), scores, at % self.head.num_classes, points]
            if of_masks:
                found.append(_by_point(of_masks[0][level], self.head.num_gen_params)[where])
            levels.append(found)
        boxes, scores, labels, points, *kernels = (torch.cat(parts) for parts in zip(*levels, strict=True))
        sure = _solid(boxes, scores > threshold)
        keep = sure[_best(boxes[sure], scores[sure], labels[sure], settings, self.size)]
        objects = boxes[keep], scores[keep], labels[keep]
        return (*objects, self._masks(of_masks[1], kernels[0][keep], points[keep])) if of_masks else objects

    def paste(self, mask: Tensor, box: Tensor) -> Tensor:
        """Return a mask as it is, ``[size, size]``."""
        return mask

    def _masks(self, features: Tensor, kernels: Tensor, points: Tensor) -> Tensor:
        """Return ``[N, size, size]``: features and places, through a small network that each object has of its own."""
        height, width = features.shape[2:]
        places = self.points[0][:, :2]
        relative = (points[:, None, :2] - places) / (8 * points[:, None, 2:3])
        shared = features.flatten(2).expand(kernels.shape[0], -1, -1)
        x = torch.cat([relative.transpose(1, 2), shared], dim=1)
        weights, biases = self.head.weight_nums, self.head.bias_nums  # how many of each layer
        parts = kernels.split([*weights, *biases], dim=1)
        for layer, outputs in enumerate(biases):
            weight = parts[layer].unflatten(1, (outputs, weights[layer] // outputs))
            x = weight @ x + parts[len(weights) + layer][:, :, None]
            if layer < len(biases) - 1:
                x = x.relu()
        logits = x.unflatten(2, (height, width))
        return F.interpolate(logits, (self.size, self.size), mode="bilinear").sigmoid()[:, 0]


def roi_stages(roi_head: Any, name: str) -> list[tuple[Any, Any]]:
    """Return extractor and head, "bbox" or "mask", of each stage; not every detector has masks."""
    if not getattr(roi_head, f"with_{name}"):
        return []
    extractor, head = getattr(roi_head, f"{name}_roi_extractor"), getattr(roi_head, f"{name}_head")
    return list(zip(extractor, head, strict=True)) if isinstance(head, nn.ModuleList) else [(extractor, head)]


def _grids(generator: Any, size: int, **options: Any) -> list[nn.Parameter]:
    """Return the anchors or points of each level."""
    sizes = [(-(-size // height), -(-size // width)) for width, height in generator.strides]
    return [nn.Parameter(grid, requires_grad=False) for grid in generator.grid_priors(sizes, device="cpu", **options)]


def _by_point(maps: Tensor, channels: int) -> Tensor:
    """Return the values of a map ``[1, A * channels, H, W]`` as ``[H * W * A, channels]``."""
    return maps.permute(0, 2, 3, 1).reshape(-1, channels)


def _by_class(deltas: Tensor) -> Tensor:
    """Return ``[N, classes, 4]`` of ``[N, classes * 4]``."""
    return deltas.unflatten(1, (-1, 4))


def _of_class(values: Tensor, labels: Tensor) -> Tensor:
    """Return each object's values for its class: ``[N, classes, ...]`` to ``[N, ...]``; one class stands for all."""
    if values.shape[1] == 1:
        return values[:, 0]
    index = labels.reshape(-1, *[1] * (values.ndim - 1)).expand(-1, 1, *values.shape[2:])
    return values.gather(1, index)[:, 0]


def _solid(boxes: Tensor, wanted: Tensor | None = None) -> Tensor:
    """Return the indices of boxes that have an area, among those that are wanted."""
    solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return (solid if wanted is None else solid & wanted).nonzero()[:, 0]


def _best(boxes: Tensor, scores: Tensor, groups: Tensor, settings: Any, size: int) -> Tensor:
    """Return the indices of the best boxes that no better one of the same group covers."""
    apart = boxes + (groups * (size + 1))[:, None]  # so that boxes of different groups never meet
    return nms(apart, scores, settings.nms.iou_threshold)[: settings.max_per_img]


def _features(extractor: Any, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Return what the level of the pyramid that suits a box's size has in the box, ``[N, C, height, width]``."""
    regions = F.pad(boxes, (1, 0))  # the first column is the image's number
    layers = extractor.roi_layers
    levels = extractor.map_roi_levels(regions, len(layers))
    members = [(levels == level).nonzero()[:, 0] for level in range(len(layers))]
    parts = [
        roi_align(level, regions[own], layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned)
        for level, own, layer in zip(maps[: len(layers)], members, layers, strict=True)
    ]
    return torch.cat(parts)[torch.cat(members).argsort()]
