"""Masks as bits, eight to a byte: how they are stored and sent."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pack_bits(mask: Tensor) -> Tensor:
    """Return a bool tensor's entries as bits, uint8 ``[ceil(numel / 8)]`` on the CPU."""
    return torch.from_numpy(np.packbits(mask.flatten().cpu().numpy()))


def unpack_bits(bits: Tensor, like: Tensor) -> Tensor:
    """Return the inverse of :func:`pack_bits`, with the shape and device of ``like``."""
    entries = np.unpackbits(bits.cpu().numpy(), count=like.numel()).astype(bool)
    return torch.from_numpy(entries).reshape(like.shape).to(like.device)
