"""Learning rates that fall from the head towards the stem, for fine-tuning.

The numbering of the layers is the one ConvNeXt, SLaK and ShiftwiseConv were fine-tuned with: three blocks of the long
third stage count as one layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

_DOWNSAMPLE = re.compile(r"(?:^|\.)stages\.(\d+)\.downsample\.")
_BLOCK = re.compile(r"(?:^|\.)stages\.(\d+)\.blocks\.(\d+)\.")
_STEM = re.compile(r"(?:^|\.)stem\.")


def layer_wise_id(name: str, layers: int = 12) -> int:
    """Return a parameter's layer: 0 for the stem, up to ``layers`` for the last stage, ``layers + 1`` for the head.

    Args:
        name: of a parameter of a shiftwise model, with or without a prefix such as ``backbone.``.
        layers: 12 for classification and detection, 9 for segmentation.
    """
    if _STEM.search(name):
        return 0
    if found := _DOWNSAMPLE.search(name):
        return {1: 2, 2: 3, 3: layers}[int(found[1])]
    if found := _BLOCK.search(name):
        stage, block = int(found[1]), int(found[2])
        return (1, 2, min(3 + block // 3, layers), layers)[stage]
    return layers + 1


def stage_wise_id(name: str, layers: int = 6) -> int:
    """Return a parameter's layer: 0 for stem and downsampling, ``stage + 1`` for blocks, ``layers + 1`` else."""
    if _STEM.search(name) or _DOWNSAMPLE.search(name):
        return 0
    found = _BLOCK.search(name)
    return int(found[1]) + 1 if found else layers + 1


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: not to vectors and biases, but to GRN, whose parameters were published as 4-D."""
    return ".grn." in name or (parameter.ndim > 1 and not name.endswith(".bias"))


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    rate: float,
    layers: int = 12,
    layer_of: Callable[[str, int], int] = layer_wise_id,
) -> list[dict[str, Any]]:
    """Group a shiftwise model's parameters for an optimizer; timm's schedulers heed the groups' ``lr_scale``.

    Args:
        parameters: names and parameters, as from ``named_parameters()``.
        weight_decay: of the groups that have any.
        rate: factor from layer to layer, 1 for none, so that ``lr_scale = rate ** (layers + 1 - layer)``.
        layers: the number below the head's.
        layer_of: :func:`layer_wise_id` or :func:`stage_wise_id`.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        decayed, scale = decays(name, parameter), rate ** (layers + 1 - layer_of(name, layers))
        group = {"params": [], "weight_decay": weight_decay * decayed, "lr_scale": scale}
        groups.setdefault((scale, decayed), group)["params"].append(parameter)
    return list(groups.values())
