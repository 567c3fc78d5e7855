"""Update rules: which units are on after an update, given what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sw_sparse.selection import best, best_per_block


@dataclass(frozen=True)
class Situation:
    """What an update rule sees of one layer; tensors are ``[blocks, size]``."""

    active: Tensor
    """Units that are on."""
    importance: Tensor
    """Worth of each unit."""
    gradient: Tensor
    """Mean ``|dL/dw|`` of each unit, off ones included; zeros for rules that do not ask for it."""
    counts: Tensor
    """int64 ``[blocks]``: units to be on after the update."""
    drop_fraction: float
    """Share of the units to be replaced."""
    generator: torch.Generator
    """CPU generator for random growth."""


@dataclass(frozen=True)
class Outcome:
    """What an update decided; bool ``[blocks, size]``."""

    kept: Tensor
    """Units that were on and keep their weights."""
    active: Tensor
    """Units that are on now; those not in ``kept`` start from 0."""


def static(now: Situation) -> Outcome:
    """Never change."""
    return Outcome(now.active, now.active)


def gradual(now: Situation) -> Outcome:
    """Keep the most important units and grow none (Zhu and Gupta 2017); the counts shrink from update to update."""
    kept = best_per_block(now.importance.masked_fill(~now.active, -torch.inf), now.counts)
    return Outcome(kept, kept)


def set_(now: Situation) -> Outcome:
    """Drop the least important units, grow as many at random (SET, Mocanu et al. 2018)."""
    draw = torch.rand(now.active.shape, generator=now.generator)
    return _drop_and_grow(now, draw.to(now.active.device))


def rigl(now: Situation) -> Outcome:
    """Drop the least important units, grow those with the largest gradient (RigL, Evci et al. 2020)."""
    return _drop_and_grow(now, now.gradient)


def _drop_and_grow(now: Situation, worth_growing: Tensor) -> Outcome:
    """Replace ``drop_fraction`` of the units; a dropped one returns only where nothing else is left to grow."""
    total, inactive = int(now.counts.sum()), int((~now.active).sum())
    replaced = min(round(now.drop_fraction * total), inactive)
    kept = best(now.importance, now.active, total - replaced)
    candidates = worth_growing.masked_fill(now.active, -1.0).masked_fill(kept, -torch.inf)
    grown = best_per_block(candidates, now.counts.to(kept.device) - kept.sum(1))
    return Outcome(kept, kept | grown)


@dataclass(frozen=True)
class UpdateRule:
    """A rule and what it asks of the engine."""

    apply: Callable[[Situation], Outcome]
    needs_gradient: bool = False
    starts_dense: bool = False


UPDATE_RULES = {
    "static": UpdateRule(static),
    "set": UpdateRule(set_),
    "rigl": UpdateRule(rigl, needs_gradient=True),
    "gradual": UpdateRule(gradual, starts_dense=True),
}
