"""Which small kernels of a model are switched off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sw_ops import ShiftwiseConv2d


@dataclass(frozen=True)
class LayerSparsity:
    """Which small kernels of a shift-wise layer are zero.

    Attributes:
        name: of the layer.
        per_path: share of zero kernels in each path.
        merged: share of kernels that are zero in all paths.
        per_slot: share of channels in which slot ``i`` is zero in all paths, one per slot.
    """

    name: str
    per_path: list[float]
    merged: float
    per_slot: list[float]


def kernel_sparsity(model: nn.Module) -> list[LayerSparsity]:
    """Return the sparsity of every shift-wise layer of an undeployed model, in order of depth."""
    found = []
    for name, layer in model.named_modules():
        if isinstance(layer, ShiftwiseConv2d):
            off = torch.stack([(w.detach() == 0).flatten(1).all(1) for w in layer.weights])  # [paths, channels*slots]
            everywhere = off.all(0)
            found.append(
                LayerSparsity(
                    name,
                    [share.item() for share in off.double().mean(1)],
                    everywhere.double().mean().item(),
                    everywhere.view(-1, layer.table.slots).double().mean(0).tolist(),
                )
            )
    return found
