"""Parameters and multiply-accumulates of a detector, part by part, from shapes alone: nothing is computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from sw_det.deployed import roi_stages
from sw_sparse.openmmlab.complexity import count_backbone, count_part

PROPOSALS, MASKS = 1000, 100  # per image, the numbers that published counts of two-stage detectors assume


def count_complexity(detector: nn.Module, size: tuple[int, int] = (800, 1280)) -> list[dict[str, Any]]:
    """Return one row for each part of the detector, with keys "part", "parameters", "MACs" and "MACs, fused".

    Multiply-accumulates are those of the convolutions and linear layers for one image. "MACs" counts a shift-wise layer
    as what it is defined by, small convolutions, and "MACs, fused" as what runs in their place. The heads of a
    two-stage detector are counted for 1000 proposals and 100 masks, in every stage of a cascade.

    Args:
        detector: a one-stage or two-stage detector of mmdet's with a backbone of sw_models; it is left alone.
        size: height and width of the image, in pixels, multiples of 32.
    """
    twin: Any = copy.deepcopy(detector).to("meta").eval()
    maps = twin.backbone(torch.empty(1, 3, *size, device="meta"))
    pyramid = twin.neck(maps)
    dense = "rpn_head" if hasattr(twin, "rpn_head") else "bbox_head"
    rows = [count_backbone(twin.backbone, size), count_part("neck", twin.neck, maps)]
    rows.append(count_part(dense, getattr(twin, dense), pyramid))
    if hasattr(twin, "roi_head"):
        for name, regions in (("bbox", PROPOSALS), ("mask", MASKS)):
            for stage, (extractor, head) in enumerate(roi_stages(twin.roi_head, name), start=1):
                height, width = extractor.roi_layers[0].output_size
                region = torch.empty(regions, extractor.out_channels, height, width, device="meta")
                rows.append(count_part(f"{name}_head {stage}", head, region))
    return rows
