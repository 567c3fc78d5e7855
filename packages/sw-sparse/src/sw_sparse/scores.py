"""Importance scores: how much each weight matters, larger meaning more.

Every score is a function of a weight and its gradient, both of one shape, and returns a non-negative tensor of that
shape. Movement is the exception: it adds up over the steps, so that its function gives one step's contribution.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]


def magnitude(weight: Tensor, gradient: Tensor | None = None) -> Tensor:
    """``|w|`` (Han et al. 2015)."""
    return weight.abs()


def gradient(weight: Tensor, gradient: Tensor) -> Tensor:
    """``|dL/dw|``, the growth criterion of RigL (Evci et al. 2020, section 3)."""
    return gradient.abs()


def snip(weight: Tensor, gradient: Tensor) -> Tensor:
    """``|w dL/dw|``, the sensitivity of the loss to removing the weight (SNIP, Lee et al. 2019, equation 5)."""
    return (weight * gradient).abs()


def movement(weight: Tensor, gradient: Tensor) -> Tensor:
    """One step's ``-w dL/dw``, to be summed over steps: moving away from 0 gains (Sanh et al. 2020, equation 4)."""
    return -weight * gradient


SCORES: dict[str, Score] = {"magnitude": magnitude, "gradient": gradient, "snip": snip, "movement": movement}
NEEDS_GRADIENT = frozenset({"gradient", "snip"})
