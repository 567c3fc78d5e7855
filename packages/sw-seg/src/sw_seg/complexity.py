"""Parameters and multiply-accumulates of a segmenter, part by part, from shapes alone: nothing is computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from sw_sparse.openmmlab.complexity import count_backbone, count_part


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
    maps = twin.backbone(torch.empty(1, 3, *size, device="meta"))
    rows = [count_backbone(twin.backbone, size), count_part("decode_head", twin.decode_head, maps)]
    if twin.with_auxiliary_head:
        rows.append(count_part("auxiliary_head", twin.auxiliary_head, None))
    return rows
