"""Choosing exactly so many units by score."""

from __future__ import annotations

import torch
from torch import Tensor


def best_per_block(scores: Tensor, counts: Tensor) -> Tensor:
    """Select the ``counts[b]`` highest scores of every block.

    Args:
        scores: ``[blocks, size]``, floating point.
        counts: ``[blocks]`` int64, each at most ``size``.

    Returns:
        bool ``[blocks, size]`` with exactly ``counts[b]`` entries on in row ``b``.
    """
    selected = torch.zeros_like(scores, dtype=torch.bool)
    most = int(counts.max()) if len(counts) else 0
    uneven = bool((counts != most).any())  # only then does the order within the best matter
    order = scores.topk(most, dim=1, sorted=uneven).indices
    return selected.scatter_(1, order, torch.arange(most, device=scores.device) < counts.to(scores.device)[:, None])


def best(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Select the ``count`` highest scores of the units in ``among``, over all blocks together.

    Args:
        scores: ``[blocks, size]``, floating point.
        among: bool ``[blocks, size]``, with at least ``count`` entries on.
        count: how many.
    """
    candidates = scores.masked_fill(~among, -torch.inf).flatten()
    selected = torch.zeros_like(candidates, dtype=torch.bool)
    selected[candidates.topk(count, sorted=False).indices] = True
    return selected.reshape(scores.shape)
