"""Checkpoints: one safetensors file each, with its own SHA-256, written whole or not at all.

Nothing read here can run code. Whatever a state dict nests becomes tensors named by their place, and JSON for the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sw_models.errors import InputError
from sw_models.files import remove_half_written, write_atomically

_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.safetensors")
_PLAIN_DATA = frozenset({"argparse.Namespace"})


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dictionaries, lists, tuples, tensors and plain values to ``path``, atomically.

    Raises:
        InputError: where it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, "", tensors), allow_nan=False)
    _write(path, tensors, {"structure": structure})


def load(path: Path) -> dict[str, Any]:
    """Return what :func:`save` wrote.

    Raises:
        InputError: for a file that is truncated, was changed, or is something else; the message names it.
    """
    tensors, metadata = _read(path)
    if "structure" not in metadata:
        raise InputError(f"{path}: holds weights alone, want a checkpoint to continue from")
    return _unflatten(json.loads(metadata["structure"]), tensors)


def save_weights(
    path: Path, weights: Mapping[str, Tensor], recipe: Mapping[str, Any], classes: Sequence[str] | None = None
) -> str:
    """Write a model's state dict under its plain names, with recipe and class names; return the weights' SHA-256."""
    tensors = {name: _alone(tensor) for name, tensor in weights.items()}
    _write(path, tensors, {"recipe": json.dumps(recipe), **({"classes": json.dumps(list(classes))} if classes else {})})
    return _digest(tensors, {})


class Weights(NamedTuple):
    """What an evaluation needs of a run's file."""

    tensors: dict[str, Tensor]
    """The model's state dict, averaged where there is an average."""
    recipe: dict[str, Any]
    """Every option of the run."""
    classes: list[str] | None
    """The names of the model's outputs; None where the file is older, or the data did not tell."""


def load_weights(path: Path) -> Weights:
    """Return the weights, the recipe and the class names of either kind of file.

    Raises:
        InputError: as :func:`load`, and for weights without a recipe.
    """
    tensors, metadata = _read(path)
    if "recipe" in metadata:
        return Weights(tensors, json.loads(metadata["recipe"]), json.loads(metadata.get("classes", "null")))
    if "structure" not in metadata:
        raise InputError(f"{path}: no recipe in it, want a file that sw-sparse train wrote")
    state = _unflatten(json.loads(metadata["structure"]), tensors)
    return Weights(state["ema"] or state["model"], state["recipe"], state.get("classes"))


def refuse_unsound(state: Mapping[str, Any], epoch: int) -> None:
    """Refuse to save a model that has diverged, so that the last good checkpoint stands.

    Raises:
        InputError: for weights that are not finite, and anything else of the model or the optimizer that is NaN.
    """
    tensors: dict[str, Tensor] = {}
    _flatten({name: state[name] for name in ("model", "ema", "optimizer")}, "", tensors, copy=False)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(
                f"lr: {name.replace('/', '.')} is no longer finite in epoch {epoch + 1}; nothing was saved of it, "
                f"want a lower learning rate or clip_grad"
            )


def refuse_code(path: Path) -> None:
    """Refuse a pickle that names anything but plain data, before anyone opens it.

    Raises:
        InputError: naming what it would call.
    """
    if path.suffix == ".safetensors" or not path.is_file():
        return
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # whatever broken bytes may raise
        raise InputError(f"{path}: no checkpoint that can be read safely") from error
    if calls := [name for name in named if name not in _PLAIN_DATA]:
        raise InputError(f"{path}: refused, opening it could run code (it names {calls[0]})")


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


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    digest = _digest(tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(path, lambda file: save_file(tensors, file, {**metadata, "sha256": digest}))
    except SafetensorError as error:  # a full disk, say
        raise InputError(f"{path}: cannot be written ({error})") from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated, or no safetensors file ({error})") from error
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        raise InputError(f"{path}: its content does not match its SHA-256, or has none")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _alone(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU that shares memory with nothing, as the format wants it."""
    return tensor.detach().cpu().contiguous().clone()


def _flatten(value: Any, place: str, tensors: dict[str, Tensor], *, copy: bool = True) -> Any:
    if isinstance(value, Tensor):
        tensors[place] = _alone(value) if copy else value
        return {"tensor": place}
    if isinstance(value, Mapping):
        return {
            "dict": [
                [key, _flatten(item, f"{place}/{key}".lstrip("/"), tensors, copy=copy)] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_flatten(item, f"{place}/{i}", tensors, copy=copy) for i, item in enumerate(value)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}  # JSON has no name for it
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place}: a checkpoint cannot hold a {type(value).__name__}")


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    items = [_unflatten(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)
