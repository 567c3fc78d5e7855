"""Update rules: which units are on after an update, given their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sw_sparse.selection import best, best_per_block


@dataclass(frozen=True)
class UpdateInput:
    """What an update rule decides from, for one layer; tensors are ``[blocks, size]``."""

    active: Tensor
    """Units that are on."""
    importance: Tensor
    """Score of each unit; finite."""
    gradient: Tensor
    """Mean ``|dL/dw|`` of each unit, off ones included; finite, zeros for rules that do not ask for it."""
    counts: Tensor
    """int64 ``[blocks]``: units to be on after the update."""
    drop_fraction: float
    """Share of the units to be replaced."""
    generator: torch.Generator
    """CPU generator for random growth."""
    regrow_dropped: bool = False
    """Whether units dropped by this update may grow again in it."""


@dataclass(frozen=True)
class UpdateResult:
    """What an update decided; bool ``[blocks, size]``."""

    kept: Tensor
    """Units that were on and keep their weights."""
    active: Tensor
    """Units that are on now; those not in ``kept`` start from 0."""


def static(now: UpdateInput) -> UpdateResult:
    """Never change."""
    return UpdateResult(now.active, now.active)


def gradual(now: UpdateInput) -> UpdateResult:
    """Keep the most important units and grow none (Zhu and Gupta 2017); the counts shrink from update to update."""
    kept = best_per_block(now.importance.masked_fill(~now.active, -torch.inf), now.counts)
    return UpdateResult(kept, kept)


def set_(now: UpdateInput) -> UpdateResult:
    """Drop the least important units, grow as many at random (SET, Mocanu et al. 2018)."""
    draw = torch.rand(now.active.shape, generator=now.generator, device="cpu")
    return _drop_and_grow(now, draw.to(now.active.device))


def rigl(now: UpdateInput) -> UpdateResult:
    """Drop the least important units, grow those with the largest gradient (RigL, Evci et al. 2020).

    The published code lets a unit grow back in the very update that drops it, where its gradient is among the largest:
    that is ``regrow_dropped``. By default a dropped unit returns only where nothing else is left to grow, so that every
    update explores as many new units as it drops.
    """
    return _drop_and_grow(now, now.gradient)


def _drop_and_grow(now: UpdateInput, growth_score: Tensor) -> UpdateResult:
    """Replace ``drop_fraction`` of the units by those of the highest ``growth_score``, which is not negative."""
    total, inactive = int(now.counts.sum()), int((~now.active).sum())
    replaced = min(round(now.drop_fraction * total), inactive)
    kept = best(now.importance, now.active, total - replaced)
    if not now.regrow_dropped:
        growth_score = growth_score.masked_fill(now.active, -1.0)
    grown = best_per_block(growth_score.masked_fill(kept, -torch.inf), now.counts.to(kept.device) - kept.sum(1))
    if now.regrow_dropped:
        return UpdateResult(kept | (grown & now.active), kept | grown)
    return UpdateResult(kept, kept | grown)


@dataclass(frozen=True)
class UpdateRule:
    """A rule and what it asks of the engine."""

    apply: Callable[[UpdateInput], UpdateResult]
    needs_gradient: bool = False
    starts_dense: bool = False


UPDATE_RULES = {
    "static": UpdateRule(static),
    "set": UpdateRule(set_),
    "rigl": UpdateRule(rigl, needs_gradient=True),
    "gradual": UpdateRule(gradual, starts_dense=True),
}
