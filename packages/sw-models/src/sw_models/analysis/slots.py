"""Analyses of the small kernels: how many are switched off, and how much of their output the shifts make use of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sw_ops import ShiftTable, ShiftwiseConv2d


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


def plane_use(table: ShiftTable, size: int) -> Tensor:
    """Return how often each value of the convolved planes lands inside the output map.

    Args:
        table: the shuffles.
        size: height and width of the map.

    Returns:
        int64 ``[channels, n, P, P]``, ``P = size + k - 1``: over the horizontal, vertical and identity paths and all
        shuffles, the number of output pixels that value is added to.
    """
    k = table.small_kernel
    margin = (k - 1) - k // 2
    plane = size + 2 * margin
    positions = torch.arange(plane)
    offsets = _offsets(table)
    lands = (positions + offsets.unsqueeze(1) >= 0) & (positions + offsets.unsqueeze(1) < size)  # [n, P]
    inside = (positions >= margin) & (positions < margin + size)
    use = torch.zeros(table.channels, table.slots, plane, plane, dtype=torch.int64)
    across = lands[table.horizontal.long().argsort(dim=2)].sum(1)  # [channels, n, P]: slot -> position -> columns
    down = lands[table.vertical.long().argsort(dim=2)].sum(1)
    use += across.unsqueeze(2) * inside[:, None]
    use += down.unsqueeze(3) * inside
    picks = torch.nn.functional.one_hot(table.identity.long(), table.slots).sum(1)
    return use + picks[:, :, None, None] * (inside[:, None] & inside)


def used_share(kernel_size: int, small_kernel: int, size: int, n_rep: int, shuffled: bool, channels: int = 16) -> float:
    """Return the share of the convolved values that reach the output at least once, by random or ordered slots."""
    if shuffled:
        table = ShiftTable.shuffled(channels, kernel_size, small_kernel, n_rep)
    else:
        n = -(-kernel_size // small_kernel)
        order = torch.arange(n, dtype=torch.int16).expand(channels, n_rep, n).clone()
        table = ShiftTable(
            kernel_size, small_kernel, order, order, torch.full((channels, n_rep), n // 2, dtype=torch.int16)
        )
    return (plane_use(table, size) > 0).double().mean().item()


def _offsets(table: Any) -> Tensor:
    """Return the shift of each position; a value at column ``c`` lands at column ``c + offset``."""
    first = table.kernel_size // 2 - (table.small_kernel - 1)
    return first - table.small_kernel * torch.arange(table.slots)
