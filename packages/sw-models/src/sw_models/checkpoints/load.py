"""The one way weights are read from files, whoever wrote them: without running any code that they may hold.

Objects beside the weights (training arguments, logs) become inert stand-ins: nothing of theirs is imported or run.
"""

from __future__ import annotations

import json
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sw_models.checkpoints.tensor_file import nested_state, read_tensor_file, write_tensors
from sw_models.errors import InputError

_WRAPPERS = ("ema", "model", "state_dict")
_PREFIXES = ("module.", "_orig_mod.")
_PLAIN_MODULES = ("torch", "collections", "builtins", "_codecs")  # of which torch itself refuses what could run code
_LEGACY_PICKLES = 4  # that precede the storages in a file of torch before 1.6: two numbers, the system, the content


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
        source: a ``.safetensors`` file, such as a checkpoint of sw-sparse, a file of ``torch.save``, or what was in
            one: a state dict, bare or as the entry "model" or "state_dict"; averaged weights as the entry "ema" come
            first. Names may start with "module." or "_orig_mod.".

    Raises:
        InputError: as :func:`read_state_dict`.
    """
    content = source if isinstance(source, Mapping) else read_file(Path(source))
    for wrapper in _WRAPPERS:
        inside = content.get(wrapper) if isinstance(content, Mapping) else None
        if isinstance(inside, Mapping) and (wrapper != "ema" or _is_state_dict(inside)):
            content = inside
            break
    if not isinstance(content, Mapping) or not content:
        kind = "nothing" if isinstance(content, Mapping) else type(content).__name__
        raise InputError(f"checkpoint: got {kind}, want a state dict, bare or as 'model' or 'state_dict'")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"checkpoint: entry {key!r} is a {type(value).__name__}, want named tensors only")
    return {_without_prefixes(key): value for key, value in content.items()}


def read_file(path: Path) -> Any:
    """Return all that a file of weights holds, on the CPU: tensors by name, or whatever was saved around them.

    Args:
        path: a ``.safetensors`` file, or one of ``torch.save``, of PyTorch before 1.6 too.

    Raises:
        InputError: it is not there, damaged, something else, or could not be read without running code.
    """
    if not path.is_file():
        raise InputError(f"checkpoint: no file {path}")
    if path.suffix == ".safetensors":
        try:
            tensors, metadata = read_tensor_file(path)
            return nested_state(tensors, metadata) or tensors
        except (InputError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"checkpoint: {path} cannot be read safely ({error})") from error
    try:
        _want_undamaged(path)
        with torch.serialization.safe_globals([(_Inert, name) for name in _foreign_names(path)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes lead a decoder to
        reason = f" ({error})" if isinstance(error, zipfile.BadZipFile) else ""  # those of torch have many lines
        raise InputError(f"checkpoint: {path} cannot be read safely as a file of torch.save{reason}") from error


def class_names(path: Path) -> list[str] | None:
    """Return the names of the classes that weights were trained for, where the file tells."""
    if path.suffix != ".safetensors":
        return None
    tensors, metadata = read_tensor_file(path)
    state = nested_state(tensors, metadata) or {}
    return state.get("classes") or json.loads(metadata.get("classes", "null"))


def write_state_dict(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, atomically: a killed process leaves no half-written file under ``path``."""
    write_tensors(path, state)


def _is_state_dict(entry: Mapping[str, Any]) -> bool:
    return bool(entry) and all(isinstance(value, Tensor) for value in entry.values())


def _without_prefixes(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.split(".", 1)[1]
    return key


def _want_undamaged(path: Path) -> None:
    """Compare the checksums that every file of torch.save since 1.6 has; torch itself does not."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} in it is damaged: its checksum is another")


def _foreign_names(path: Path) -> list[str]:
    """Return the classes and functions that a file names and torch does not trust, without calling any."""
    if zipfile.is_zipfile(path):
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with path.open("rb") as file:
        found = {
            str(name).replace(" ", ".")
            for _ in range(_LEGACY_PICKLES)
            for operation, name, _ in pickletools.genops(file)
            if operation.name == "GLOBAL"
        }
    return [name for name in found if name.split(".")[0] not in _PLAIN_MODULES]
