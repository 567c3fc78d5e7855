"""How much of what the small kernels compute the shifts make use of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sw_ops import ShiftTable


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
