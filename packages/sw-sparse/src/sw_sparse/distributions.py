"""Layer-wise distributions: how many units each layer keeps so that all of them together keep exactly the share asked.

Every layer keeps at least one unit: a layer without any could never grow back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def kept_in_total(sizes: Mapping[str, int], density: float) -> int:
    """Return the number of units to keep out of all, at least one per layer.

    Raises:
        ValueError: where the density leaves less than one unit per layer.
    """
    total = round(density * sum(sizes.values()))
    if total < len(sizes):
        raise ValueError(
            f"sparsity: {1 - density:g} leaves {total} of {sum(sizes.values())} units for {len(sizes)} layers, "
            f"want at least one for each"
        )
    return total


def apportion(quotas: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Round quotas to whole numbers in ``1..size`` that add up to ``total``, by the largest remainders."""
    counts = {name: min(max(math.floor(quotas[name]), 1), sizes[name]) for name in sizes}
    while rest := total - sum(counts.values()):
        sign = 1 if rest > 0 else -1
        movable = [name for name in sizes if 1 <= counts[name] + sign <= sizes[name]]
        movable.sort(key=lambda name: sign * (counts[name] - quotas[name]))
        for name in movable[: abs(rest)]:
            counts[name] += sign
    return counts


def uniform(sizes: Mapping[str, int], density: float) -> dict[str, int]:
    """Give every layer the same density."""
    return apportion({name: density * size for name, size in sizes.items()}, sizes, kept_in_total(sizes, density))


def erk(sizes: Mapping[str, int], shapes: Mapping[str, Sequence[int]], density: float) -> dict[str, int]:
    """Erdős-Rényi-Kernel: a layer's density grows with ``sum(shape) / prod(shape)`` (RigL, section 3 and appendix).

    Layers that would exceed 1 are dense, and the others share what is left.
    """
    total = kept_in_total(sizes, density)
    weight = {name: sizes[name] * sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        left = total - sum(sizes[name] for name in dense)
        scale = left / sum(weight[name] for name in sizes if name not in dense) if len(dense) < len(sizes) else 0
        quotas = {name: sizes[name] if name in dense else scale * weight[name] for name in sizes}
        full = {name for name in sizes if quotas[name] > sizes[name]}
        if not full:
            return apportion(quotas, sizes, total)
        dense |= full


def snip(scores: Mapping[str, Tensor], density: float) -> dict[str, int]:
    """Give every layer as many units as it has among the highest scores of all layers (Lee et al. 2019, section 4)."""
    sizes = {name: score.numel() for name, score in scores.items()}
    total = kept_in_total(sizes, density)
    layer_of_unit = torch.repeat_interleave(torch.tensor(list(sizes.values()), device="cpu"))
    everything = torch.cat([score.detach().flatten().double().cpu() for score in scores.values()])
    kept = torch.bincount(layer_of_unit[everything.topk(total, sorted=False).indices], minlength=len(sizes))
    return apportion(dict(zip(sizes, kept.tolist(), strict=True)), sizes, total)
