"""A run's checkpoints and final weights: safetensors files, see :mod:`sw_models.checkpoints.tensor_file`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sw_models.checkpoints.tensor_file import (
    digest,
    flatten,
    nested_state,
    read_tensor_file,
    write_tensors,
)
from sw_models.errors import InputError
from sw_models.files import remove_half_written
from sw_sparse.compaction import KEY

_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.safetensors")


def load(path: Path) -> dict[str, Any]:
    """Return the state of a run that :func:`.write_state` wrote.

    Raises:
        InputError: for a file that is truncated, was changed, or is something else; the message names it.
    """
    state = nested_state(*read_tensor_file(path))
    if state is None:
        raise InputError(f"{path}: holds weights alone, want a checkpoint to continue from")
    return state


def save_weights(
    path: Path,
    weights: Mapping[str, Tensor],
    recipe: Mapping[str, Any],
    classes: Sequence[str] | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """Write a model's state dict under its plain names, with recipe and class names; return the weights' SHA-256."""
    metadata = {"recipe": json.dumps(recipe), **({"classes": json.dumps(list(classes))} if classes else {})}
    write_tensors(path, weights, {**metadata, **(more or {})})
    return digest({name: tensor.detach().cpu() for name, tensor in weights.items()}, {})


class Weights(NamedTuple):
    """What an evaluation needs of a run's file."""

    tensors: dict[str, Tensor]
    """The model's state dict, averaged where there is an average."""
    recipe: dict[str, Any]
    """Every option of the run."""
    classes: list[str] | None
    """The names of the model's outputs; None where the file is older, or the data did not tell."""
    compact: str | None = None
    """How a compact model differs from its architecture, for :func:`sw_sparse.compaction.fit`."""


def load_weights(path: Path) -> Weights:
    """Return the weights, the recipe and the class names of either kind of file.

    Raises:
        InputError: as :func:`load`, and for weights without a recipe.
    """
    tensors, metadata = read_tensor_file(path)
    if "recipe" in metadata:
        classes = json.loads(metadata.get("classes", "null"))
        return Weights(tensors, json.loads(metadata["recipe"]), classes, metadata.get(KEY))
    state = nested_state(tensors, metadata)
    if state is None:
        raise InputError(f"{path}: no recipe in it, want a file that sw-sparse train wrote")
    return Weights(state["ema"] or state["model"], state["recipe"], state.get("classes"))


def refuse_unsound(state: Mapping[str, Any], epoch: int) -> None:
    """Refuse to save a model that has diverged, so that the last good checkpoint stands.

    Raises:
        InputError: for weights that are not finite, and anything else of the model or the optimizer that is NaN.
    """
    tensors: dict[str, Tensor] = {}
    flatten({name: state[name] for name in ("model", "ema", "optimizer")}, "", tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(
                f"lr: {name.replace('/', '.')} is no longer finite in epoch {epoch + 1}; nothing was saved of it, "
                f"want a lower learning rate or clip_grad"
            )


def newest(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the newest checkpoint of a folder that is sound, naming each that is not through ``warn``."""
    for path in reversed(_in_order(folder)):
        try:
            return load(path)
        except InputError as error:
            warn(f"{error}; trying the one before")
    return None


def file_of(folder: Path, epoch: int, step: int | None = None) -> Path:
    """Return the name of a checkpoint: of a whole epoch, or after so many steps of it."""
    return folder / (
        f"epoch-{epoch:04}.safetensors" if step is None else f"epoch-{epoch:04}-step-{step:06}.safetensors"
    )


def prune(folder: Path, keep: int) -> None:
    """Delete old checkpoints, and what killed processes left half-written.

    The newest of whole epochs stay, and the newest within an epoch where it is newer than those.
    """
    files = _in_order(folder)
    whole = [path for path in files if not _place(path)[1]]
    kept = {*whole[-keep:], *files[-1:]}
    for path in files:
        if path not in kept:
            path.unlink()
    remove_half_written(folder)


def _in_order(folder: Path) -> list[Path]:
    """Return a folder's checkpoints from the oldest to the newest."""
    return sorted((path for path in folder.glob("epoch-*.safetensors") if _NAME.fullmatch(path.name)), key=_place)


def _place(path: Path) -> tuple[int, int]:
    """Return how far a checkpoint's run has come: whole epochs, and steps of the next."""
    epoch, step = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
    return (int(epoch) + 1, 0) if step is None else (int(epoch), int(step))
