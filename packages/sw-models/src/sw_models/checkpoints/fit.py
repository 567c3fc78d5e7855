"""Whether weights are those of a model, by names and shapes, said in one line where they are not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from sw_models.errors import InputError

_BLOCK = re.compile(r".*?stages\.\d+\.blocks\.\d+(?=\.)")


def load_fitting(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load weights into a model, completely.

    Args:
        model: a model.
        state: its weights by name, of this version or an older one.
        what: begins the error, such as "checkpoint: a.pth".

    Raises:
        InputError: as :func:`want_fitting`; the model is as it was.
    """
    state = dict(state)
    for name, module in model.named_modules():
        update: Any = getattr(module, "update_old_state", None)
        if update is not None:
            update(state, f"{name}." if name else "")
    want_fitting(model, state, what)
    model.load_state_dict(state)


def want_fitting(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that a model lacks or that lack something of it, and those of another shape.

    Raises:
        InputError: naming the first few that differ, whole blocks where blocks are concerned.
    """
    wanted = model.state_dict()
    want_same_names(wanted, state, what)
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            found, want = tuple(state[name].shape), tuple(value.shape)
            raise InputError(f"{what} has {name} of shape {found}, the model wants {want}")


def want_same_names(wanted: Iterable[str], found: Iterable[str], what: str) -> None:
    """Refuse weights whose names are not those of the model.

    Raises:
        InputError: naming what is missing, or else what is too much.
    """
    wanted, found = set(wanted), set(found)
    if missing := wanted - found:
        raise InputError(f"{what} lacks {_summary(missing)}, which the model has")
    if unexpected := found - wanted:
        raise InputError(f"{what} has {_summary(unexpected)}, which the model lacks")


def _summary(names: Iterable[str]) -> str:
    listed = sorted({block.group() if (block := _BLOCK.match(name)) else name for name in names})
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
