"""The published operator on an already convolved input, for parity with the published CUDA extension."""

from __future__ import annotations

import torch
from torch import Tensor

from sw_ops.assembly import SlotValues, ninefold_placement, placements
from sw_ops.table import ShiftTable


def shift_add(
    y: Tensor, table: ShiftTable, size: tuple[int, int], scales: SlotValues | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Shift the planes of a full small convolution apart and add them, per channel.

    With ``n`` slots of width ``k``, ``e = (k-1) - k//2`` and offsets ``o`` (:func:`sw_ops.slot_offsets`), this is
    ``h[c, r, q] = sum over shuffles and positions j of y[slot at j, r + e, q - o_j]``, ``v`` likewise downwards, and
    ``s`` the sum of the identity slots, unshifted; outside ``y`` counts as zero. It gathers instead of scattering, so
    both directions are deterministic. :func:`sw_ops.shiftwise_conv2d` gives the same without ever making ``y``.

    Args:
        y: ``[B, channels*n, H + 2e, W + 2e]``, the output of ``conv2d(x, w, padding=k-1, groups=channels)``.
        table: which slot stands where.
        size: ``(H, W)`` of the maps to return.
        scales: a factor for every slot in every shuffle; 1 by default.

    Returns:
        ``h, v, s``, each ``[B, channels, H, W]``.
    """
    height, width = size
    planes, e = _planes(y, table.channels, table.slots, table.small_kernel, size)
    horizontal, vertical, identity = placements(table, y.dtype, scales)
    across = _at_positions(planes, horizontal)[..., e : e + height, :]
    down = _at_positions(planes, vertical)[..., e : e + width]
    h = _shifted_sum(across, [(0, offset) for offset in table.offsets], size)
    v = _shifted_sum(down, [(offset, 0) for offset in table.offsets], size)
    s = _at_positions(planes, identity)[:, :, 0, e : e + height, e : e + width]
    return h, v, s


def shift_add_ninefold(y: Tensor, neighbours: Tensor, small_kernel: int, size: tuple[int, int]) -> Tensor:
    """Compute the third map of the published "blur" variant; see :func:`sw_ops.assemble_ninefold`.

    Args:
        y: ``[B, channels*n, H + 2e, W + 2e]``, as for :func:`shift_add`.
        neighbours: int32 ``[channels, n_rep, n]``, values -1..8.
        small_kernel: width ``k`` of the small kernels, the step of the nine moves.
        size: ``(H, W)`` of the map to return.
    """
    channels, _, n = neighbours.shape
    planes, e = _planes(y, channels, n, small_kernel, size)
    moves = [(row * small_kernel - e, column * small_kernel - e) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    return _shifted_sum(_at_positions(planes, ninefold_placement(neighbours, y.dtype)), moves, size)


def _planes(y: Tensor, channels: int, n: int, small_kernel: int, size: tuple[int, int]) -> tuple[Tensor, int]:
    """Return ``y`` as ``[B, channels, n, H + 2e, W + 2e]``, and ``e``."""
    e = (small_kernel - 1) - small_kernel // 2
    want = (channels * n, size[0] + 2 * e, size[1] + 2 * e)
    if not y.is_floating_point():
        raise TypeError(f"y: got {y.dtype}, want a floating-point tensor")
    if y.ndim != 4 or y.shape[1:] != want:
        raise ValueError(f"y: got shape {tuple(y.shape)}, want [batch, {', '.join(map(str, want))}] for size {size}")
    return y.reshape(y.shape[0], channels, n, *y.shape[2:]), e


def _at_positions(planes: Tensor, placement: Tensor) -> Tensor:
    """Sum the planes ``[B, channels, n, h, w]`` that stand at each position of ``[channels, positions, n]``."""
    return torch.einsum("cpi,bcihw->bcphw", placement, planes)


def _shifted_sum(planes: Tensor, moves: list[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """Sum ``[B, channels, positions, h, w]`` over the positions, each moved (down, right), cut to ``size``."""
    total = planes.new_zeros(*planes.shape[:2], *size)
    for position, (down, right) in enumerate(moves):
        from_rows, to_rows = _overlap(down, planes.shape[3], size[0])
        from_columns, to_columns = _overlap(right, planes.shape[4], size[1])
        total[:, :, to_rows, to_columns] += planes[:, :, position, from_rows, from_columns]
    return total


def _overlap(offset: int, source_size: int, target_size: int) -> tuple[slice, slice]:
    """Return what of a source moved by ``offset`` lies on the target, as slices of the source and of the target."""
    first = max(0, offset)
    last = max(first, min(target_size, source_size + offset))
    return slice(first - offset, last - offset), slice(first, last)
