"""The decisions of the published ShiftwiseConv code, for comparisons.

They differ from ours in what they promise: the density holds on average only. Units are filters, masks are bool
``[filters]``; see the paper (arXiv 2401.12736, section 3.3) for the idea.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sw_sparse.scores import snip
from sw_sparse.targets import SparseLayer
from sw_sparse.updates import UpdateResult

DENSE_ENOUGH = 0.99
"""Layers whose mask is at least so dense get none."""


def snip_sparsities(scores: Mapping[str, Tensor], keep_ratio: float) -> dict[str, float]:
    """Return each layer's sparsity: the share of its scores not strictly above the ``n``-th largest of all scores.

    Args:
        scores: per layer, of any shape; with parallel paths those of all paths.
        keep_ratio: ``n`` is ``int(keep_ratio * number of scores)``.
    """
    everything = torch.cat([score.flatten() for score in scores.values()])
    threshold = everything.topk(max(int(len(everything) * keep_ratio), 1)).values[-1]
    return {name: 1 - int((score > threshold).sum()) / score.numel() for name, score in scores.items()}


def bernoulli_mask(filters: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Draw a mask whose every entry is on with probability ``1 - sparsity``."""
    return torch.rand(filters, generator=generator, device="cpu") < 1 - sparsity


def prune(mask: Tensor, magnitude: Tensor, rate: float) -> Tensor:
    """Switch off the ``zeros + ceil(rate * ones)`` filters of smallest magnitude.

    Args:
        mask: the mask so far.
        magnitude: sum of ``|w|`` per filter, over all paths where they are aligned. A filter that only another path has
            on counts as well, so that more than ``ceil(rate * ones)`` may fall.
        rate: share to remove.
    """
    on = int(mask.sum())
    removed = math.ceil(rate * on)
    if removed == 0:
        return magnitude != 0
    weakest = magnitude.argsort()[: len(mask) - on + removed]
    return mask.clone().index_fill_(0, weakest, False)


def grow(mask: Tensor, removed: int, generator: torch.Generator) -> Tensor:
    """Switch every filter on with probability ``removed / zeros``, those that are on already included."""
    zeros = int((~mask).sum())
    draw = torch.rand(len(mask), generator=generator, device="cpu").to(mask.device)
    return mask | (draw < removed / zeros) if zeros else mask


def first_masks(
    layers: Sequence[SparseLayer], gradients: Mapping[str, Tensor], density: float, generator: torch.Generator
) -> list[Tensor]:
    """Return the masks to start from, path by path: one draw per layer."""
    scores = {
        layer.name: torch.cat(layer.scores([snip(w, gradients[name]) for name, w in layer.weights.items()]))
        for layer in layers
    }
    rates = snip_sparsities(scores, density)
    masks = []
    for layer in layers:
        mask = bernoulli_mask(layer.shape[0], rates[layer.name], generator).to(layer.active[0].device)
        masks += [mask.unsqueeze(0)] * len(layer.weights)
    return masks


def update(layers: Sequence[SparseLayer], rate: float, aligned: bool, generator: torch.Generator) -> list[UpdateResult]:
    """Return what becomes of each path: all layers are pruned before the first is grown, as the draws are ordered."""
    pruned: list[list[tuple[int, Tensor]]] = []
    for layer in layers:
        sums = [weight.abs().flatten(1).sum(1) for weight in layer.parameters]
        masks = [mask[0] for mask in layer.active]
        if aligned:
            masks, sums = masks[:1], [torch.stack(sums).sum(0)]
        after = [prune(mask, magnitude, rate) for mask, magnitude in zip(masks, sums, strict=True)]
        pruned.append([(int(mask.sum() - new.sum()), new) for mask, new in zip(masks, after, strict=True)])
    results = []
    for layer, paths in zip(layers, pruned, strict=True):
        grown = [grow(mask, removed, generator).unsqueeze(0) for removed, mask in paths]
        grown = grown * len(layer.weights) if aligned else grown
        results += [UpdateResult(before & after, after) for before, after in zip(layer.active, grown, strict=True)]
    return results
