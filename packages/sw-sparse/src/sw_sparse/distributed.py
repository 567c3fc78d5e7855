"""Keeping masks identical on all ranks of a distributed run, and storing them as bits."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


def pack(mask: Tensor) -> Tensor:
    """Return a bool tensor's entries as bits, uint8 ``[ceil(numel / 8)]`` on the CPU."""
    return torch.from_numpy(np.packbits(mask.flatten().cpu().numpy()))


def unpack(bits: Tensor, like: Tensor) -> Tensor:
    """Return the inverse of :func:`pack`, with the shape and device of ``like``."""
    entries = np.unpackbits(bits.cpu().numpy(), count=like.numel()).astype(bool)
    return torch.from_numpy(entries).reshape(like.shape).to(like.device)


def distributed() -> bool:
    """Whether there is any rank to agree with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def adopt_from_first_rank(masks: Sequence[Tensor]) -> list[Tensor]:
    """Return the first rank's masks on every rank, in one broadcast of bits."""
    packed = [pack(mask) for mask in masks]
    message = torch.cat(packed).to(_device(masks[0]))
    dist.broadcast(message, src=0)
    parts = message.cpu().split([len(bits) for bits in packed])
    return [unpack(bits, mask) for bits, mask in zip(parts, masks, strict=True)]


def verify(names: Sequence[str], masks: Sequence[Tensor]) -> None:
    """Compare a hash of every mask between the ranks.

    Raises:
        RuntimeError: on every rank, naming the layers whose masks differ.
    """
    hashes = torch.tensor([zlib.crc32(pack(mask).numpy().tobytes()) for mask in masks], dtype=torch.int64)
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
