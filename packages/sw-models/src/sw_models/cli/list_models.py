"""``sw-models list`` and ``sw-models info``."""

from __future__ import annotations

from typing import Any

import timm
import torch
from rich.progress import Progress

from sw_models.analysis.flops import count_macs
from sw_models.cli.common import AsJson, Size, create
from sw_models.console import print_json, print_rows
from sw_models.models.shiftwise import ShiftwiseStage
from sw_ops import mlp_is_compiled

MODULES = ("shiftwise", "shiftwise_v1", "shiftwise_coordatt", "slak", "unireplknet")


def list_models(as_json: AsJson = False, size: Size = 224) -> None:
    """List the models with parameters, multiply-accumulates and kernel sizes."""
    names = [name for module in MODULES for name in timm.list_models(module=module)]
    with Progress(transient=True) as progress:
        rows = [_summary(name, size) for name in progress.track(names, description="counting")]
    print_rows(rows, as_json, f"models of this package, images of {size}x{size}")


def info(model: str, as_json: AsJson = False, size: Size = 224) -> None:
    """Describe one model: its stages, its sizes, its paper, and what serves its deployed form on this CPU."""
    described = _summary(model, size)
    net = create(model, "meta")
    cfg = net.default_cfg
    described |= {"paper": cfg.get("paper_name"), "arxiv": cfg.get("paper_ids"), "license": cfg.get("license")}
    described["depths"] = [len(stage.blocks) for stage in net.stages]
    described["dims"] = [feature["num_chs"] for feature in net.feature_info]
    if isinstance(net.stages[0], ShiftwiseStage):
        with torch.no_grad():
            compiled = mlp_is_compiled(torch.empty(1, 1, 1, 1))
        described["deployed_mlp"] = "one compiled kernel in float32" if compiled else "PyTorch's operators"
    if as_json:
        print_json(described)
        return
    print_rows([{"property": key, "value": str(value)} for key, value in described.items()], False, model)


def _summary(name: str, size: int) -> dict[str, Any]:
    model = create(name, "meta")
    kernels = [
        sorted({m.kernel_size if isinstance(m.kernel_size, int) else m.kernel_size[0] for m in convs}, reverse=True)
        for convs in ([block.conv for block in stage.blocks] for stage in model.stages)
        if all(hasattr(m, "kernel_size") for m in convs)
    ]
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "GMACs": round(count_macs(model, size)["total"] / 1e9, 3),
        "kernels": " ".join("/".join(map(str, sizes)) for sizes in kernels),
    }
