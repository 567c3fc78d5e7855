"""From the small kernels to the stripes: the shift-wise operator is a depthwise convolution with these kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sw_ops.table import ShiftTable


class Stripes(NamedTuple):
    """Depthwise kernels of the three paths, for ``channels`` channels, ``n`` slots and small kernels of width ``k``.

    Attributes:
        horizontal: ``[channels, k, n*k]``.
        vertical: ``[channels, n*k, k]``.
        square: ``[channels, k, k]``.
    """

    horizontal: Tensor
    vertical: Tensor
    square: Tensor


def assemble_stripes(weight: Tensor, table: ShiftTable) -> Stripes:
    """Place the slots of ``weight`` where ``table`` puts them and add what falls on the same place.

    Shifting a full convolution is convolving with a shifted kernel, so the sum of shifted small convolutions is one
    convolution with the sum of the shifted kernels. Differentiable in ``weight``, deterministic in both directions.

    Args:
        weight: ``[channels*n, 1, k, k]``, floating; output channel ``c*n + i`` is slot ``i`` of channel ``c``.
        table: where the slots go; must have the same number of channels and slots.

    Returns:
        The stripes, in the dtype of ``weight``.
    """
    channels, n, k = table.channels, table.slots, table.small_kernel
    if weight.shape != (channels * n, 1, k, k):
        raise ValueError(f"weight: got shape {tuple(weight.shape)}, want {(channels * n, 1, k, k)} as the table says")

    # placed[c, p] is the slot that stands at position p: n horizontal positions, n vertical ones, the identity path.
    placed = torch.cat([table.horizontal, table.vertical, table.identity.unsqueeze(-1)], dim=2)
    every_slot = torch.arange(n, device=placed.device, dtype=placed.dtype)
    counts = (placed.unsqueeze(-1) == every_slot).sum(dim=1).to(weight.dtype)  # [channels, 2n+1, n]

    with torch.autocast(weight.device.type, enabled=False):  # a rounded product here would round every tap
        taps = torch.bmm(counts, weight.reshape(channels, n, k * k)).view(channels, 2 * n + 1, k, k)
    return Stripes(
        horizontal=taps[:, :n].transpose(1, 2).reshape(channels, k, n * k),
        vertical=taps[:, n : 2 * n].reshape(channels, n * k, k),
        square=taps[:, 2 * n],
    )
