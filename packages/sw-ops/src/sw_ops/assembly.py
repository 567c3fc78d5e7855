"""From the small kernels to the stripes: the shift-wise operator is a depthwise convolution with these kernels."""

from __future__ import annotations

from contextlib import nullcontext
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


class SlotValues(NamedTuple):
    """One number per channel, shuffle and slot for each path: learned scales, or a position embedding.

    Attributes:
        horizontal: ``[channels, n_rep, n]``.
        vertical: ``[channels, n_rep, n]``.
        identity: ``[channels, n_rep]``, for the one slot that each shuffle picks.
    """

    horizontal: Tensor
    vertical: Tensor
    identity: Tensor

    @classmethod
    def from_published(cls, w1: Tensor, w2: Tensor, w3: Tensor, n_rep: int, slots: int) -> SlotValues:
        """Read the published vectors: ``w1``, ``w2`` of ``channels*slots*n_rep``, ``w3`` of ``channels*n_rep``."""
        across, down = (w.reshape(-1, slots, n_rep).transpose(1, 2) for w in (w1, w2))
        return cls(across, down, w3.reshape(-1, n_rep))


def assemble_stripes(weight: Tensor, table: ShiftTable, scales: SlotValues | None = None) -> Stripes:
    """Place the slots of ``weight`` where ``table`` puts them and add what falls on the same place.

    Shifting a full convolution is convolving with a shifted kernel, so the sum of shifted small convolutions is one
    convolution with the sum of the shifted kernels. Differentiable in ``weight`` and ``scales``, deterministic in
    both directions.

    Args:
        weight: ``[channels*n, 1, k, k]``, floating; output channel ``c*n + i`` is slot ``i`` of channel ``c``.
        table: where the slots go; must have the same number of channels and slots.
        scales: a factor for every slot in every shuffle (the published "linear" variant); 1 by default.

    Returns:
        The stripes, in the dtype of ``weight``.
    """
    channels, n, k = table.channels, table.slots, table.small_kernel
    if weight.shape != (channels * n, 1, k, k):
        raise ValueError(f"weight: got shape {tuple(weight.shape)}, want {(channels * n, 1, k, k)} as the table says")

    if scales is None:
        return Stripes(*stripes_of_slots(weight, table.horizontal, table.vertical, table.identity))
    return Stripes(*_cut(_placed(weight, torch.cat(placements(table, weight.dtype, scales), dim=1))))


def stripes_of_slots(
    weight: Tensor, horizontal: Tensor, vertical: Tensor, identity: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return :func:`assemble_stripes` of a table's tensors; TorchScript compiles this function."""
    slots = torch.cat([horizontal, vertical, identity.unsqueeze(-1)], dim=2)  # [channels, n_rep, 2n+1]
    every_slot = torch.arange(horizontal.shape[2], device=slots.device, dtype=slots.dtype)
    return _cut(_placed(weight, (slots.unsqueeze(-1) == every_slot).to(weight).sum(dim=1)))  # its dtype and device


def assemble_ninefold(weight: Tensor, neighbours: Tensor) -> Tensor:
    """Build the kernel of the published "blur" variant, whose third path spreads the slots over nine offsets.

    Args:
        weight: ``[channels*n, 1, k, k]``, floating.
        neighbours: int32 ``[channels, n_rep, n]``; the place 0..8 of a 3x3 grid, row by row, that each shuffle moves
            a slot's output to, in steps of ``k`` pixels (4 leaves it in the middle), or -1 to leave the slot out.

    Returns:
        ``[channels, 3k, 3k]``, a centred depthwise kernel that takes the place of ``Stripes.square``.
    """
    channels, _, n = neighbours.shape
    k = weight.shape[-1]
    if weight.shape != (channels * n, 1, k, k):
        raise ValueError(f"weight: got shape {tuple(weight.shape)}, want {(channels * n, 1, k, k)} as neighbours say")
    # An output that moves right reads from the left, so the grid of taps is the grid of moves turned by half a turn.
    taps = _placed(weight, ninefold_placement(neighbours, weight.dtype).flip(1))
    return taps.reshape(channels, 3, 3, k, k).transpose(2, 3).reshape(channels, 3 * k, 3 * k)


def placements(table: ShiftTable, dtype: torch.dtype, scales: SlotValues | None = None) -> tuple[Tensor, ...]:
    """Return, for the three paths, how often (or with what weight) each slot stands at each position.

    Returns:
        ``[channels, n, n]`` (position, slot) for the horizontal path, the same for the vertical one, and
        ``[channels, 1, n]`` for the identity path.
    """
    slots = (table.horizontal, table.vertical, table.identity.unsqueeze(-1))
    every_slot = torch.arange(table.slots, device=table.identity.device, dtype=table.identity.dtype)
    stands = [(path.unsqueeze(-1) == every_slot).to(dtype) for path in slots]  # [channels, n_rep, positions, n]
    if scales is not None:
        factors = (scales.horizontal.unsqueeze(2), scales.vertical.unsqueeze(2), scales.identity[..., None, None])
        stands = [stand * factor for stand, factor in zip(stands, factors, strict=True)]
    return tuple(stand.sum(dim=1) for stand in stands)


def ninefold_placement(neighbours: Tensor, dtype: torch.dtype) -> Tensor:
    """Return how often each slot goes to each of the nine places, ``[channels, 9, n]``."""
    every_place = torch.arange(9, device=neighbours.device, dtype=neighbours.dtype)
    return (neighbours.unsqueeze(2) == every_place[:, None]).to(dtype).sum(dim=1)


def position_embedding(table: ShiftTable, values: SlotValues, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what the published "embedding" variant adds to the three maps.

    That variant adds a constant to every plane as it is shifted; where the shifted plane does not reach, nothing is
    added. The result depends on the position alone.

    Args:
        table: where the slots go.
        values: the constant of every slot in every shuffle.
        size: ``(H, W)`` of the maps.

    Returns:
        Terms for ``h`` ``[channels, 1, W]``, ``v`` ``[channels, H, 1]`` and ``s`` ``[channels, 1, 1]``.
    """
    height, width = size
    across = values.horizontal.gather(2, table.horizontal.long()).sum(dim=1)  # [channels, positions]
    down = values.vertical.gather(2, table.vertical.long()).sum(dim=1)
    h = across @ _reach(table, width).to(across)
    v = down @ _reach(table, height).to(down)
    return h.unsqueeze(1), v.unsqueeze(2), values.identity.sum(dim=1)[:, None, None]


def _placed(weight: Tensor, placement: Tensor) -> Tensor:
    """Sum the slots ``[channels*n, 1, k, k]`` at each position of ``placement`` ``[channels, positions, n]``."""
    channels, positions, n = placement.shape
    k = weight.shape[-1]
    slots = weight.reshape(channels, n, k * k)
    if torch.jit.is_scripting():
        taps = torch.bmm(placement, slots)
    else:
        # A product in autocast's dtype would round every tap; the meta device knows no autocast.
        device = weight.device.type
        with torch.autocast(device, enabled=False) if device != "meta" else nullcontext():
            taps = torch.bmm(placement, slots)
    return taps.view(channels, positions, k, k)


def _cut(taps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut ``[channels, 2n+1, k, k]`` into the horizontal, the vertical and the square kernel."""
    channels, positions, k, _ = taps.shape
    n = positions // 2
    horizontal = taps[:, :n].transpose(1, 2).reshape(channels, k, n * k)
    return horizontal, taps[:, n : 2 * n].reshape(channels, n * k, k), taps[:, 2 * n]


def _reach(table: ShiftTable, size: int) -> Tensor:
    """Return which of ``size`` pixels the shifted plane of each position covers, bool ``[n, size]``."""
    e = (table.small_kernel - 1) - table.small_kernel // 2
    source = torch.arange(size, device=table.identity.device) - torch.tensor(
        table.offsets, device=table.identity.device
    ).unsqueeze(1)
    return (source >= 0) & (source < size + 2 * e)
