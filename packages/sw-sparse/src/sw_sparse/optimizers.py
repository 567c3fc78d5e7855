"""What the engine asks of an optimizer."""

from __future__ import annotations

import torch


def innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer that does the work, inside a wrapper such as accelerate's, Fabric's or timm's Lookahead."""
    for attribute in ("optimizer", "_base_optimizer"):
        if isinstance(inner := getattr(optimizer, attribute, None), torch.optim.Optimizer):
            return innermost(inner)
    return optimizer


def found_inf(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a gradient scaler told a fused optimizer, which is stepped all the same, to leave this step out."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def training_parameters(optimizer: torch.optim.Optimizer) -> set[int]:
    """Return the ids of the parameters that take part in the optimizer's next step.

    Those that are frozen, have no gradient, or have a learning rate of 0 do not.
    """
    groups = [group for group in optimizer.param_groups if group.get("lr") is None or float(group["lr"]) != 0]
    return {id(p) for group in groups for p in group["params"] if p.requires_grad and p.grad is not None}
