"""Parameters and multiply-accumulates of a segmenter, part by part, from shapes alone: nothing is computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sw_models.analysis.flops import count_macs


def count_complexity(segmenter: nn.Module, size: tuple[int, int] = (512, 2048)) -> list[dict[str, Any]]:
    """Return one row for each part of a segmenter, with keys "part", "parameters", "MACs" and "MACs, fused".

    Multiply-accumulates are those of the convolutions and linear layers for one image. "MACs" counts a shift-wise layer
    as what it is defined by, small convolutions, and "MACs, fused" as what runs in their place. The auxiliary head
    works in training alone; its parameters count, its operations do not.

    Args:
        segmenter: one of MMSegmentation's with a backbone of sw_models; it is left alone.
        size: height and width of the image, in pixels, multiples of 32.
    """
    twin: Any = copy.deepcopy(segmenter).to("meta").eval()
    counts = count_macs(twin.backbone, size)
    fused = counts["total"] - counts["large kernels"] + counts["large kernels, fused"]
    maps = twin.backbone(torch.empty(1, 3, *size, device="meta"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin.decode_head(maps)
    head = counter.get_total_flops() // 2
    rows = [_row("backbone", twin.backbone, counts["total"], fused), _row("decode_head", twin.decode_head, head, head)]
    if twin.with_auxiliary_head:
        rows.append(_row("auxiliary_head", twin.auxiliary_head, 0, 0))
    return rows


def _row(part: str, module: nn.Module, macs: int, fused: int) -> dict[str, Any]:
    parameters = sum(p.numel() for p in module.parameters())
    return {"part": part, "parameters": parameters, "MACs": macs, "MACs, fused": fused}
