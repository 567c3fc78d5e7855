"""Parameters and multiply-accumulates of a model's parts, from shapes alone: nothing is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sw_models.analysis.flops import count_macs


def count_backbone(backbone: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Return the row of a backbone of sw_models for an image of ``size``, see :func:`count_part`."""
    counts = count_macs(backbone, size)
    fused = counts["total"] - counts["large kernels"] + counts["large kernels, fused"]
    return _row("backbone", backbone, counts["total"], fused)


def count_part(name: str, part: nn.Module, given: Any) -> dict[str, Any]:
    """Return one row with "part", "parameters", "MACs" and "MACs, fused".

    Args:
        name: what the part is called.
        part: on the device "meta".
        given: its input; None for what does not run, whose parameters are counted alone.
    """
    if given is None:
        return _row(name, part, 0, 0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        part(given)
    macs = counter.get_total_flops() // 2
    return _row(name, part, macs, macs)


def _row(name: str, part: nn.Module, macs: int, fused: int) -> dict[str, Any]:
    parameters = sum(p.numel() for p in part.parameters())
    return {"part": name, "parameters": parameters, "MACs": macs, "MACs, fused": fused}
