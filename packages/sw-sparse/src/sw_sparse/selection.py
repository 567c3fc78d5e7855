"""Choosing exactly so many units by score; among equal scores, those that come first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SMALL = 16  # so many columns are ranked faster by comparing all pairs than by sorting


def best_per_block(scores: Tensor, counts: Tensor) -> Tensor:
    """Select the ``counts[b]`` highest scores of every block.

    Args:
        scores: ``[blocks, size]``, floating point, without NaN.
        counts: ``[blocks]`` int64, each at most ``size``.

    Returns:
        bool ``[blocks, size]`` with exactly ``counts[b]`` entries on in row ``b``.
    """
    if len(scores) == 1:
        return _highest(scores[0], int(counts)).unsqueeze(0)
    if scores.shape[1] <= _SMALL:
        return _rank_by_comparison(scores) < counts.to(scores.device)[:, None]
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < counts.to(scores.device)[:, None]


def best(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Select the ``count`` highest scores of the units in ``among``, over all blocks together.

    Args:
        scores: ``[blocks, size]``, floating point, without NaN.
        among: bool ``[blocks, size]``, with at least ``count`` entries on.
        count: how many.
    """
    return _highest(scores.masked_fill(~among, -torch.inf).flatten(), count).reshape(scores.shape)


def _rank_by_comparison(scores: Tensor) -> Tensor:
    """Count, for each score, those of its block that come before it: larger ones, and equal ones further left."""
    rank = torch.zeros(scores.shape, dtype=torch.int8, device=scores.device)
    for place in range(scores.shape[1]):
        score = scores[:, place, None]
        rank[:, :place] += score > scores[:, :place]
        rank[:, place + 1 :] += score >= scores[:, place + 1 :]
    return rank


def _highest(scores: Tensor, count: int) -> Tensor:
    """Select ``count`` of ``[size]``: all above the last score that gets in, and as many as needed that equal it."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    last = _kth_highest(scores, count)
    selected = scores > last
    equal = (scores == last).nonzero().flatten()
    selected[equal[: count - int(selected.sum())]] = True
    return selected


def _kth_highest(scores: Tensor, k: int) -> Tensor:
    if scores.device.type != "cpu":
        return scores.topk(k, sorted=False).values.min()
    place = len(scores) - k
    values = scores if scores.dtype == torch.float64 else scores.float()
    # NumPy partitions in vector registers, ten times as fast as PyTorch selects on a CPU.
    return torch.tensor(np.partition(values.numpy(), place)[place], dtype=scores.dtype, device="cpu")
