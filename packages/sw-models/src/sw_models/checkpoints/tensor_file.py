"""Safetensors files: whole or not at all, equal bytes for equal content, sealed with a SHA-256, of any nested state.

Nothing read here can run code. Whatever a state nests becomes tensors named by their place, and JSON for the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sw_models.errors import InputError
from sw_models.files import write_atomically

STRUCTURE = "structure"  # the metadata that says what is nested where
_SEAL = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically; equal tensors and metadata give equal files.

    Args:
        path: the file.
        tensors: on any device; they may share memory, in the file they do not.
        metadata: texts by name. A file with metadata gets its SHA-256, which :func:`read_tensor_file` compares.

    Raises:
        InputError: it cannot be written.
    """
    alone = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    texts = {**metadata, _SEAL: digest(alone, metadata)} if metadata else None

    def write(file: Path) -> None:
        save_file(alone, file, texts)
        if texts:
            _sort_metadata(file)

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_atomically(path, write)
    except SafetensorError as error:  # a full disk, say
        raise InputError(f"{path}: cannot be written ({error})") from error


def read_tensor_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        InputError: it is not there, truncated, something else, or was changed since it was written.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as error:  # whatever damaged bytes lead a decoder to
        raise InputError(f"{path}: truncated, or no safetensors file ({_line(error)})") from error
    seal = metadata.pop(_SEAL, None)
    if seal != digest(tensors, metadata) and (seal is not None or STRUCTURE in metadata):
        raise InputError(f"{path}: its content does not match its SHA-256, or has none")
    return tensors, metadata


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of tensors on the CPU and of texts, in any order."""
    total = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dictionaries, lists, tuples, tensors and plain values to a safetensors file, atomically.

    Raises:
        InputError: it cannot be written.
        TypeError: something of another type is in it; its place is named.
    """
    tensors: dict[str, Tensor] = {}
    write_tensors(path, tensors, {STRUCTURE: json.dumps(flatten(state, "", tensors), allow_nan=False)})


def nested_state(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what :func:`write_state` wrote, from what is in the file; None where that is tensors alone."""
    return _unflatten(json.loads(metadata[STRUCTURE]), tensors) if STRUCTURE in metadata else None


def flatten(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Put the tensors of a nested value into ``tensors`` by their places, and return the rest for JSON."""
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"tensor": place}
    if isinstance(value, Mapping):
        return {"dict": [[key, flatten(item, f"{place}/{key}".lstrip("/"), tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [flatten(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]}
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


def _sort_metadata(path: Path) -> None:
    """Put the metadata in the order of their names; safetensors writes them in an order that each process draws."""
    with path.open("rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > size:
            raise AssertionError(f"{path}: a header of {len(text)} bytes in the place of {size}")
        file.seek(8)
        file.write(text.ljust(size))  # spaces, as the format fills up


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
