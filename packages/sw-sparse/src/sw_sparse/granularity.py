"""Granularity: what is switched on and off as one unit.

A granularity sees a weight as ``[blocks, size]`` units. How many units are on is kept per block: a whole layer is one
block, except for N:M sparsity, where every M consecutive weights are one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

COMPOUND = ("unit", "channel")
"""Granularities whose units lie in several parameters at once: see ``units.py``."""


class Granularity(Protocol):
    """How a weight is divided into units."""

    @property
    def shares_paths(self) -> bool:
        """Whether the parallel paths of a layer have one mask."""

    @property
    def kept_per_block(self) -> int | None:
        """Units that are on in every block, where the granularity itself fixes it."""

    def unsuited(self, shape: torch.Size) -> str | None:
        """Return why a weight of this shape cannot be divided, or None where it can."""

    def units(self, scores: Tensor) -> Tensor:
        """Reduce scores of the weight's shape to ``[blocks, size]``."""

    def mask(self, active: Tensor, shape: torch.Size) -> Tensor:
        """Spread ``[blocks, size]`` booleans to a mask that broadcasts against the weight."""


@dataclass(frozen=True)
class Element:
    """Single weights."""

    shares_paths = False
    kept_per_block = None

    def unsuited(self, shape: torch.Size) -> str | None:
        """Every shape will do."""
        return None

    def units(self, scores: Tensor) -> Tensor:
        """Flatten to ``[1, numel]``."""
        return scores.reshape(1, -1)

    def mask(self, active: Tensor, shape: torch.Size) -> Tensor:
        """Return the mask in the weight's own shape."""
        return active.reshape(shape)


@dataclass(frozen=True)
class Filter:
    """Whole filters, ``weight[i]``; a filter's score is the mean over its weights.

    Args:
        shares_paths: one mask for the parallel paths of a layer, as the paper's structured sparsity has it.
        dim: the dimension that the filters lie along; 1 are a layer's inputs.
        each: so many filters in a row are one unit.
    """

    shares_paths: bool = False
    dim: int = 0
    each: int = 1
    kept_per_block = None

    def unsuited(self, shape: torch.Size) -> str | None:
        """Vectors have no filters, but those were left out before."""
        return None

    def units(self, scores: Tensor) -> Tensor:
        """Average over all other dimensions: ``[1, filters]``."""
        return scores.movedim(self.dim, 0).reshape(scores.shape[self.dim] // self.each, -1).mean(1).unsqueeze(0)

    def mask(self, active: Tensor, shape: torch.Size) -> Tensor:
        """Return a mask ``[filters, 1, ...]``, the filters in their dimension."""
        return active.reshape(-1).repeat_interleave(self.each).view(-1, *[1] * (len(shape) - self.dim - 1))


@dataclass(frozen=True)
class NOutOfM:
    """N of every M weights that follow each other along the input dimension (dimension 1) are on."""

    n: int
    m: int
    shares_paths = False

    @property
    def kept_per_block(self) -> int:
        """Return N."""
        return self.n

    def unsuited(self, shape: torch.Size) -> str | None:
        """Say where the input dimension is no multiple of M."""
        return None if shape[1] % self.m == 0 else f"dimension 1 is {shape[1]}, no multiple of {self.m}"

    def units(self, scores: Tensor) -> Tensor:
        """Cut the input dimension into groups: ``[groups, M]``."""
        return scores.movedim(1, -1).reshape(-1, self.m)

    def mask(self, active: Tensor, shape: torch.Size) -> Tensor:
        """Return the mask in the weight's own shape."""
        inputs_last = (shape[0], *shape[2:], shape[1])
        return active.reshape(inputs_last).movedim(-1, 1)


def parse_granularity(text: str) -> Granularity:
    """Read ``element``, ``filter``, ``shared_filter``, ``N:M``, or one of ``COMPOUND``, whose units begin as filters.

    Raises:
        ValueError: for anything else.
    """
    named: dict[str, Granularity] = {
        "element": Element(),
        "filter": Filter(),
        "shared_filter": Filter(shares_paths=True),
        **dict.fromkeys(COMPOUND, Filter()),
    }
    if text in named:
        return named[text]
    pair = re.fullmatch(r"(\d+):(\d+)", text)
    if pair and 1 <= int(pair[1]) < int(pair[2]):
        return NOutOfM(int(pair[1]), int(pair[2]))
    raise ValueError(f"granularity: got {text!r}, want one of {', '.join(named)}, or N:M with 1 <= N < M such as 2:4")
