"""Parameters and multiply-accumulates of a detector, part by part, from shapes alone: nothing is computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sw_det.deployed import roi_stages
from sw_models.analysis.flops import count_macs

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
    counts = count_macs(twin.backbone, size)
    fused = counts["total"] - counts["large kernels"] + counts["large kernels, fused"]
    rows = [_row("backbone", twin.backbone, counts["total"], fused)]

    maps = twin.backbone(torch.empty(1, 3, *size, device="meta"))
    rows.append(_row("neck", twin.neck, _macs(twin.neck, maps)))
    pyramid = twin.neck(maps)
    dense = "rpn_head" if hasattr(twin, "rpn_head") else "bbox_head"
    rows.append(_row(dense, getattr(twin, dense), _macs(getattr(twin, dense), pyramid)))
    if hasattr(twin, "roi_head"):
        for name, regions in (("bbox", PROPOSALS), ("mask", MASKS)):
            for stage, (extractor, head) in enumerate(roi_stages(twin.roi_head, name), start=1):
                height, width = extractor.roi_layers[0].output_size
                region = torch.empty(regions, extractor.out_channels, height, width, device="meta")
                rows.append(_row(f"{name}_head {stage}", head, _macs(head, region)))
    return rows


def _row(part: str, module: nn.Module, macs: int, fused: int | None = None) -> dict[str, Any]:
    parameters = sum(p.numel() for p in module.parameters())
    return {"part": part, "parameters": parameters, "MACs": macs, "MACs, fused": macs if fused is None else fused}


def _macs(part: nn.Module, given: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        part(given)
    return counter.get_total_flops() // 2
