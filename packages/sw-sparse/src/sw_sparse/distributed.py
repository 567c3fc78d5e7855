"""Keeping masks identical on all ranks of a distributed run."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from sw_sparse.bits import pack_bits, unpack_bits


def is_distributed() -> bool:
    """Whether there is any rank to agree with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def broadcast_masks(masks: Sequence[Tensor]) -> list[Tensor]:
    """Return the first rank's masks on every rank, in one broadcast of bits."""
    packed = [pack_bits(mask) for mask in masks]
    message = torch.cat(packed).to(_device(masks[0]))
    dist.broadcast(message, src=0)
    parts = message.cpu().split([len(bits) for bits in packed])
    return [unpack_bits(bits, mask) for bits, mask in zip(parts, masks, strict=True)]


def broadcast_values(values: Tensor) -> None:
    """Overwrite ``values`` with the first rank's."""
    message = values.to(_device(values))
    dist.broadcast(message, src=0)
    values.copy_(message)


def verify_masks(names: Sequence[str], masks: Sequence[Tensor]) -> None:
    """Compare a hash of every mask between the ranks.

    Raises:
        RuntimeError: on every rank, naming the layers whose masks differ.
    """
    hashes = torch.tensor(
        [zlib.crc32(pack_bits(mask).numpy().tobytes()) for mask in masks], dtype=torch.int64, device="cpu"
    )
    low = hashes.to(_device(masks[0]))
    high = low.clone()
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    differing = [name for name, differs in zip(names, (low != high).tolist(), strict=True) if differs]
    if differing:
        raise RuntimeError(
            f"the masks of {', '.join(differing)} differ between ranks; every rank must load the same state"
        )


def _device(mask: Tensor) -> torch.device:
    """Return where the backend wants its tensors: NCCL on the GPU, gloo on the CPU."""
    return mask.device if dist.get_backend() == "nccl" else torch.device("cpu")
