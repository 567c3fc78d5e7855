"""Where every slot of the small kernels goes: shift tables and the split into processed and copied channels.

A large kernel of width ``M`` is covered by ``n = ceil(M / k)`` slots of width ``k``. Position ``j`` of a stripe is its
taps ``j*k .. j*k+k-1``; a table says which slot (which small kernel of the channel) stands at which position, for each
of ``n_rep`` shuffles and for the horizontal and the vertical stripe (ShiftwiseConv, arXiv 2401.12736, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

PUBLISHED_SEED = 123


def slot_count(kernel_size: int, small_kernel: int) -> int:
    """Return ``n = ceil(kernel_size / small_kernel)``, the number of small kernels along a stripe.

    Raises:
        ValueError: ``small_kernel`` is even or not positive, or ``kernel_size`` is smaller than it.

    Example:
        >>> slot_count(51, 3)
        17
    """
    if small_kernel < 1 or small_kernel % 2 == 0:
        raise ValueError(f"small_kernel: got {small_kernel}, want a positive odd number (an even one has no centre)")
    if kernel_size < small_kernel:
        raise ValueError(f"kernel_size: got {kernel_size}, want at least small_kernel = {small_kernel}")
    return -(-kernel_size // small_kernel)


def slot_offsets(kernel_size: int, small_kernel: int) -> list[int]:
    """Return the shift in pixels of each stripe position, ``o_j = M//2 - j*k - (k-1)``, from left to right.

    Example:
        >>> slot_offsets(7, 3)
        [1, -2, -5]
    """
    n = slot_count(kernel_size, small_kernel)
    return [kernel_size // 2 - j * small_kernel - (small_kernel - 1) for j in range(n)]


@dataclass(frozen=True)
class ShiftTable:
    """The slots of every channel in the order in which they stand along the stripes.

    Attributes:
        kernel_size: width ``M`` of the large kernel that the slots cover.
        small_kernel: width ``k`` of one slot.
        horizontal: int32 ``[channels, n_rep, n]``; ``horizontal[c, g, j]`` is the slot of channel ``c`` that shuffle
            ``g`` places at position ``j`` of the horizontal stripe.
        vertical: the same for the vertical stripe, from top to bottom.
        identity: int32 ``[channels, n_rep]``; the slot that shuffle ``g`` adds, unshifted, to the identity path.
    """

    kernel_size: int
    small_kernel: int
    horizontal: Tensor
    vertical: Tensor
    identity: Tensor

    def __post_init__(self) -> None:
        n = slot_count(self.kernel_size, self.small_kernel)
        if self.horizontal.ndim != 3 or self.horizontal.shape[2] != n:
            raise ValueError(f"horizontal: got shape {tuple(self.horizontal.shape)}, want [channels, n_rep, {n}]")
        if self.vertical.shape != self.horizontal.shape:
            raise ValueError(
                f"vertical: got shape {tuple(self.vertical.shape)}, want {tuple(self.horizontal.shape)} as horizontal"
            )
        if self.identity.shape != self.horizontal.shape[:2]:
            raise ValueError(
                f"identity: got shape {tuple(self.identity.shape)}, want {tuple(self.horizontal.shape[:2])}"
            )

    @property
    def channels(self) -> int:
        """Number of channels the table serves."""
        return self.horizontal.shape[0]

    @property
    def n_rep(self) -> int:
        """Number of shuffles that are summed."""
        return self.horizontal.shape[1]

    @property
    def slots(self) -> int:
        """Number ``n`` of slots per channel."""
        return self.horizontal.shape[2]

    @property
    def offsets(self) -> list[int]:
        """Shift in pixels of each position, from left to right; see :func:`slot_offsets`."""
        return slot_offsets(self.kernel_size, self.small_kernel)

    @classmethod
    def shuffled(
        cls, channels: int, kernel_size: int, small_kernel: int, n_rep: int, seed: int = PUBLISHED_SEED
    ) -> ShiftTable:
        """Draw the tables from a generator of their own; the default seed gives the published ones bit for bit."""
        drawn = _shuffles(channels, slot_count(kernel_size, small_kernel), n_rep, seed)
        return cls(kernel_size, small_kernel, *(torch.from_numpy(table.copy()) for table in drawn))

    def of_channels(self, keep: Tensor) -> ShiftTable:
        """Return the table of some of the channels, by their numbers, int64."""
        slots = (self.horizontal[keep], self.vertical[keep], self.identity[keep])
        return ShiftTable(self.kernel_size, self.small_kernel, *slots)

    def to(self, device: torch.device | str) -> ShiftTable:
        """Return the table on another device."""
        slots = (self.horizontal.to(device), self.vertical.to(device), self.identity.to(device))
        return ShiftTable(self.kernel_size, self.small_kernel, *slots)

    @classmethod
    def from_published(cls, kernel_size: int, small_kernel: int, pad_hv: Tensor, idx_identit: Tensor) -> ShiftTable:
        """Read the published index tensors.

        Args:
            kernel_size: width ``M`` of the large kernel.
            small_kernel: width ``k`` of a slot.
            pad_hv: ``[channels*n, 2*n_rep]``, the shift of each plane: horizontal ones first, then vertical.
            idx_identit: ``[channels, n_rep]``, the absolute plane number of the identity path.
        """
        offsets = slot_offsets(kernel_size, small_kernel)
        n, first, n_rep = len(offsets), offsets[0], pad_hv.shape[1] // 2
        position = ((first - pad_hv.long()) // small_kernel).reshape(-1, n, 2 * n_rep)
        slots = position.argsort(dim=1).permute(0, 2, 1).to(torch.int32)  # a permutation's argsort is its inverse
        identity = (idx_identit.long() % n).to(torch.int32)
        return cls(kernel_size, small_kernel, slots[:, :n_rep].clone(), slots[:, n_rep:].clone(), identity)

    def to_published(self) -> tuple[Tensor, Tensor]:
        """Return ``(pad_hv, idx_identit)`` as the published extension wants them, int32."""
        offsets = torch.tensor(self.offsets, device=self.identity.device)
        position = torch.cat([self.horizontal, self.vertical], dim=1).long().argsort(dim=2)
        pad_hv = offsets[position].permute(0, 2, 1).reshape(self.channels * self.slots, 2 * self.n_rep)
        idx_identit = (
            self.identity.long() + torch.arange(self.channels, device=self.identity.device).unsqueeze(1) * self.slots
        )
        return pad_hv.to(torch.int32), idx_identit.to(torch.int32)


@dataclass(frozen=True)
class ChannelSplit:
    """Which input channels pass through the operator ("rep") and which are only copied ("ghost").

    Attributes:
        rep: sorted int64 ``[n_rep_channels]``.
        ghost: sorted int64 ``[n_ghost_channels]``; together with ``rep`` every channel exactly once.
        order: int64 ``[channels]``, which of ``cat([rep, ghost])`` each channel of the output is; None: the same.
    """

    rep: Tensor
    ghost: Tensor
    order: Tensor | None = None

    @property
    def outputs(self) -> Tensor:
        """The input channel that each channel of the output is made of, int64 ``[channels]``."""
        together = torch.cat([self.rep, self.ghost])
        return together if self.order is None else together[self.order]

    def narrowed(self, keep: Tensor) -> ChannelSplit:
        """Return the split that copies more channels, and puts all out in the same places.

        Args:
            keep: bool ``[n_rep_channels]``; the others become ghost channels.
        """
        rep, ghost = self.rep[keep], torch.cat([self.rep[~keep], self.ghost]).sort().values
        return ChannelSplit(rep, ghost, torch.cat([rep, ghost]).argsort()[self.outputs])

    @classmethod
    def published(cls, channels: int, ghost_ratio: float, *, even: bool = True) -> ChannelSplit:
        """Reproduce the published split.

        Args:
            channels: number of input channels.
            ghost_ratio: share of them that is copied, in [0, 1).
            even: keep an even number of processed channels, as the published v2 networks do; v1 networks round the
                number of copied ones down instead.
        """
        if not 0 <= ghost_ratio < 1:
            raise ValueError(f"ghost_ratio: got {ghost_ratio}, want a number in [0, 1)")
        if ghost_ratio == 0:
            processed = channels  # also an odd number: a copied channel that nobody asked for would surprise
        elif even:
            processed = int(channels * (1 - ghost_ratio)) // 2 * 2
        else:
            processed = channels - int(channels * ghost_ratio)
        if processed < 1:
            raise ValueError(f"channels: got {channels}, want enough that a ghost_ratio of {ghost_ratio} leaves some")
        generator = np.random.RandomState(PUBLISHED_SEED)
        ghost = np.sort(generator.choice(channels, channels - processed, replace=False))
        rep = np.setdiff1d(np.arange(channels), ghost)
        return cls(torch.from_numpy(rep).long(), torch.from_numpy(ghost).long())


@lru_cache(maxsize=64)
def _shuffles(channels: int, slots: int, n_rep: int, seed: int) -> tuple[NDArray[np.int32], ...]:
    """Draw horizontal, vertical and identity tables in the published order.

    They are arrays: a tensor that is made under a mode of torch's (FakeTensorMode) is of no use after it.
    """
    # A surrounding torch.device("meta") or ("cuda"), or a mode, must not change the draw.
    with _disable_current_modes(), torch.device("cpu"):
        generator = torch.Generator().manual_seed(seed)

        def permutations() -> NDArray[np.int32]:
            drawn = [torch.randperm(slots, generator=generator) for _ in range(n_rep * channels)]
            tables = torch.stack(drawn).reshape(n_rep, channels, slots).transpose(0, 1)
            return np.ascontiguousarray(tables.numpy(), dtype=np.int32)

        horizontal, vertical = permutations(), permutations()
        drawn = [torch.randint(0, slots, [channels], generator=generator) for _ in range(n_rep)]
        return horizontal, vertical, np.ascontiguousarray(torch.stack(drawn, dim=1).numpy(), dtype=np.int32)
