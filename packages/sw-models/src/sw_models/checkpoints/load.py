"""Reads weights from files without running any code that they may hold, and writes them safely."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sw_models.errors import InputError
from sw_models.files import write_atomically

_WRAPPERS = ("model", "state_dict")
_PREFIXES = ("module.", "_orig_mod.")


class _Inert:
    """Stands in for an object of a class that a checkpoint names; it keeps nothing and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_state_dict(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a network's checkpoint by name.

    Args:
        source: as for :func:`read_tensors`. If some names start with "backbone.", those are the weights, and the rest
            belongs to the detector or segmenter around them.

    Raises:
        InputError: the file is no checkpoint, or holds something else than tensors where the weights should be.
    """
    state = read_tensors(source)
    inside = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    return inside or state


def read_tensors(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint by name.

    Args:
        source: a ``.safetensors`` file, a file of ``torch.save``, or what was in one: a state dict, bare or as the
            entry "model" or "state_dict". Names may start with "module." or "_orig_mod.".

    Raises:
        InputError: as :func:`read_state_dict`.
    """
    content = source if isinstance(source, Mapping) else _read_file(Path(source))
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        kind = type(content).__name__
        raise InputError(f"checkpoint: got {kind}, want a state dict, bare or as 'model' or 'state_dict'")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"checkpoint: entry {key!r} is a {type(value).__name__}, want named tensors only")
    return {_without_prefixes(key): value for key, value in content.items()}


def write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, atomically: a killed process leaves no half-written file under ``path``."""
    content = save({key: value.detach().clone().contiguous() for key, value in state.items()})
    write_atomically(path, lambda file: file.write_bytes(content))


def _without_prefixes(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.split(".", 1)[1]
    return key


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"checkpoint: no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Objects beside the weights (training arguments, logs) become inert stand-ins: nothing of theirs is imported.
        with torch.serialization.safe_globals([(_Inert, name) for name in _foreign_classes(path)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(f"checkpoint: {path} cannot be read safely as a torch.save or safetensors file") from error


def _foreign_classes(path: Path) -> list[str]:
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except InputError:  # a file of torch before 1.6; those tools saved their arguments and nothing else
        return [f"{argparse.Namespace.__module__}.{argparse.Namespace.__qualname__}"]
