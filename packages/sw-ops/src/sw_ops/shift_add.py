"""The published operator on an already convolved input, for parity with the published CUDA extension."""

from __future__ import annotations

import torch
from torch import Tensor

from sw_ops.table import ShiftTable, slot_offsets


def shift_add(y: Tensor, table: ShiftTable, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Shift the planes of a full small convolution apart and add them, per channel.

    With ``n`` slots of width ``k``, ``e = (k-1) - k//2`` and offsets ``o`` (:func:`sw_ops.slot_offsets`), this is
    ``h[c, r, q] = sum over shuffles and positions j of y[slot at j, r + e, q - o_j]``, ``v`` likewise downwards, and
    ``s`` the sum of the identity slots, unshifted; outside ``y`` counts as zero. It gathers instead of scattering, so
    both directions are deterministic. :func:`sw_ops.shiftwise_conv2d` gives the same without ever making ``y``.

    Args:
        y: ``[B, channels*n, H + 2e, W + 2e]``, the output of ``conv2d(x, w, padding=k-1, groups=channels)``.
        table: which slot stands where.
        size: ``(H, W)`` of the maps to return.

    Returns:
        ``h, v, s``, each ``[B, channels, H, W]``.
    """
    height, width = size
    n, k, channels = table.slots, table.small_kernel, table.channels
    e = (k - 1) - k // 2
    want = (channels * n, height + 2 * e, width + 2 * e)
    if not y.is_floating_point():
        raise TypeError(f"y: got {y.dtype}, want a floating-point tensor")
    if y.ndim != 4 or y.shape[1:] != want:
        raise ValueError(f"y: got shape {tuple(y.shape)}, want [batch, {', '.join(map(str, want))}] for size {size}")

    planes = y.reshape(y.shape[0], channels, n, *y.shape[2:])
    offsets = slot_offsets(table.kernel_size, k)
    across = _at_positions(planes, table.horizontal)[..., e : e + height, :]
    down = _at_positions(planes, table.vertical)[..., e : e + width]
    h = _add_shifted(across, offsets, dim=-1, size=width)
    v = _add_shifted(down, offsets, dim=-2, size=height)
    s = _at_positions(planes, table.identity.unsqueeze(-1))[:, :, 0, e : e + height, e : e + width]
    return h, v, s


def _at_positions(planes: Tensor, slots: Tensor) -> Tensor:
    """Sum over the shuffles of the planes ``[B, C, n, h, w]`` in the order of ``slots`` ``[C, n_rep, positions]``."""
    every_slot = torch.arange(planes.shape[2], device=slots.device, dtype=slots.dtype)
    counts = (slots.unsqueeze(-1) == every_slot).sum(dim=1).to(planes.dtype)  # [C, positions, n]
    return torch.einsum("cpi,bcihw->bcphw", counts, planes)


def _add_shifted(planes: Tensor, offsets: list[int], dim: int, size: int) -> Tensor:
    """Sum the planes ``[B, C, n, h, w]`` over ``n``, plane ``j`` moved by ``offsets[j]`` along ``dim``, cut to size."""
    shape = list(planes.shape)
    del shape[2]
    shape[dim] = size
    total = planes.new_zeros(shape)
    for j, offset in enumerate(offsets):
        first, last = max(0, offset), min(size, planes.shape[dim] + offset)
        if first < last:
            part = planes[:, :, j].narrow(dim, first - offset, last - first)
            total.narrow(dim, first, last - first).add_(part)
    return total
