"""Checkpoints: one safetensors file each, with its own SHA-256, written whole or not at all.

Nothing read here can run code. Whatever a state dict nests becomes tensors named by their place, and JSON for the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sw_models.errors import InputError
from sw_models.files import write_atomically

_PLAIN_DATA = frozenset({"argparse.Namespace"})


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dictionaries, lists, tuples, tensors and plain values to ``path``, atomically."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, "", tensors))
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


def save_weights(path: Path, weights: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> str:
    """Write a model's state dict under its plain names, with the recipe; return the weights' SHA-256."""
    tensors = {name: _alone(tensor) for name, tensor in weights.items()}
    _write(path, tensors, {"recipe": json.dumps(recipe)})
    return _digest(tensors, {})


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights (averaged ones, where there are any) and the recipe of either kind of file.

    Raises:
        InputError: as :func:`load`, and for weights without a recipe.
    """
    tensors, metadata = _read(path)
    if "recipe" in metadata:
        return tensors, json.loads(metadata["recipe"])
    if "structure" not in metadata:
        raise InputError(f"{path}: no recipe in it, want a file that sw-sparse train wrote")
    state = _unflatten(json.loads(metadata["structure"]), tensors)
    return state["ema"] or state["model"], state["recipe"]


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
    for path in sorted(folder.glob("epoch-*.safetensors"), reverse=True):
        try:
            return load(path)
        except InputError as error:
            warn(f"{error}; trying the one before")
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest checkpoints, and what killed processes left half-written."""
    for path in sorted(folder.glob("epoch-*.safetensors"))[:-keep]:
        path.unlink()
    remove_half_written(folder)


def remove_half_written(folder: Path) -> None:
    """Delete the temporary files that killed processes left."""
    for path in folder.glob(".*.writing"):
        path.unlink()


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    digest = _digest(tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: save_file(tensors, file, {**metadata, "sha256": digest}))


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


def _flatten(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[place] = _alone(value)
        return {"tensor": place}
    if isinstance(value, Mapping):
        return {"dict": [[key, _flatten(item, f"{place}/{key}".lstrip("/"), tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_flatten(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place}: a checkpoint cannot hold a {type(value).__name__}")


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    items = [_unflatten(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)
