"""``--cfg-options key=value``: read as MMEngine does, and refused where no part of the configuration knows the key."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mmengine.runner  # noqa: F401 - fills the registries of loops, hooks and optimizers
from mmengine import registry as registries
from mmengine.config import DictAction
from mmengine.registry import Registry

from sw_models.errors import InputError

# What a dictionary without a type is handed to, by its key, and so may have besides what it has.
_MEANT_FOR = {
    "train_cfg": ("IterBasedTrainLoop", "EpochBasedTrainLoop"),
    "val_cfg": ("ValLoop",),
    "test_cfg": ("TestLoop",),
}
# What a configuration may have at its top that anything reads; other names are those of its own file.
_READ = {
    "auto_scale_lr", "custom_hooks", "custom_imports", "data_options", "data_preprocessor", "default_hooks",
    "default_scope", "env_cfg", "experiment_name", "find_unused_parameters", "launcher", "load_from",
    "log_level", "log_processor", "model", "model_wrapper_cfg", "optim_wrapper", "param_scheduler",
    "randomness", "resume", "splits", "test_cfg", "test_dataloader", "test_evaluator", "train_cfg",
    "train_dataloader", "tta_model", "tta_pipeline", "val_cfg", "val_dataloader", "val_evaluator", "visualizer",
    "work_dir",
}  # fmt: skip
_INSTEAD = {
    "epochs": "--epochs", "iterations": "--iterations", "warm_up": "param_scheduler.0.end", "data_root": "--data",
    "crop_size": "--size", "scale": "--size", "train_pipeline": "train_dataloader.dataset.pipeline",
    "test_pipeline": "test_dataloader.dataset.pipeline",
}  # fmt: skip
_LIKE = 0.75  # keys that are more alike than this are taken for one that was misspelt


def parse_options(options: Sequence[str], cfg: Any) -> dict[str, Any]:
    """Return ``key=value`` pairs as a dictionary of keys with dots.

    Args:
        options: such as ``train_cfg.max_epochs=3`` or ``model.backbone.dims=(4,8,16,32)``.
        cfg: MMEngine's configuration, which the keys belong to.

    Raises:
        InputError: a pair cannot be read, or its key is unknown; near ones are named.
    """
    for option in options:
        key, equals, _ = option.partition("=")
        if not equals:
            raise InputError(f"--cfg-options: got {option}, want key=value")
        present = _want_known(key, cfg)
        (value,) = read_pairs([option]).values()
        if value is None:
            continue
        parts = present if isinstance(present, list) else [present]
        if not isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in parts):
            raise InputError(f"--cfg-options: got {option}, but {key} is a part with settings")
        if isinstance(present, int | float) and isinstance(value, str):
            raise InputError(f"--cfg-options: got {option}, want a number as {present!r} is")
    return read_pairs(options)


def read_pairs(options: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` pairs as a dictionary, whatever their keys; words with spaces between them stay as they are.

    Raises:
        InputError: a value cannot be read.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    try:
        found = parser.parse_args(["--cfg-options", *options]).cfg_options if options else {}
        return found | {option.partition("=")[0]: text for option in options if (text := _words(option))}
    except (RecursionError, SyntaxError, ValueError, AssertionError) as error:  # MMEngine knows no dictionaries here
        raise InputError(f"--cfg-options: cannot read {' '.join(options)}, want numbers, names or lists") from error


def _words(option: str) -> str:
    """Return the words of a pair whose value is no list, "" where it has one word; MMEngine takes spaces out."""
    text = option.partition("=")[2].strip().strip("'\"")
    return text if " " in text and not set("[](),") & set(text) else ""


def _want_known(key: str, cfg: Any) -> Any:
    """Return what is where a key points, None if nothing is; refuse the first word that the part around it rejects."""
    first = key.partition(".")[0]
    if first in cfg and first not in _READ:
        near = _INSTEAD.get(first) or ", ".join(difflib.get_close_matches(first, _READ, n=2, cutoff=0.5))
        raise InputError(
            f"--cfg-options: {first} is only a name in the configuration's file, and nothing reads it later"
            + (f"; want {near}" if near else "")
        )
    place: Any = cfg.to_dict()
    walked: list[str] = []
    for word in key.split("."):
        if isinstance(place, list | tuple):
            if not word.isdigit() or int(word) >= len(place):
                raise InputError(f"--cfg-options: {'.'.join(walked)} has {len(place)} entries, got {word} in {key}")
            place = place[int(word)]
        elif isinstance(place, Mapping):
            if word not in place:
                _want_accepted(word, key, place, walked)
                return None
            place = place[word]
        else:
            raise InputError(f"--cfg-options: {'.'.join(walked)} is {place!r}, which has no {word}")
        walked.append(word)
    return place


def _want_accepted(word: str, key: str, place: Mapping[str, Any], walked: list[str]) -> None:
    """Refuse a new word unless the part's class takes it, or is unknown and has nothing that is nearly called so."""
    accepted: set[str] = set()
    kinds = [place["type"]] if "type" in place else _MEANT_FOR.get(".".join(walked), ())
    anything = bool(walked) and not kinds
    for kind in kinds:
        names, takes_more = _parameters(kind)
        accepted |= names
        anything = anything or takes_more
    if word in accepted:
        return
    near = difflib.get_close_matches(word, [*place, *accepted], n=3, cutoff=0.5)
    close = difflib.get_close_matches(word, [*place, *accepted], n=1, cutoff=_LIKE)
    if not anything or close:
        around = ".".join(walked) or "the configuration"
        raise InputError(f"--cfg-options: {around} has no {word}" + (f", but {', '.join(near)}" if near else ""))


def _parameters(kind: Any) -> tuple[set[str], bool]:
    """Return the names of the arguments of a class in a registry, and whether it takes others, too."""
    found = kind if inspect.isclass(kind) else next((c for r in _registries() if (c := _get(r, kind))), None)
    ancestors = found.__mro__[:-1] if inspect.isclass(found) else ()
    names: set[str] = set()
    for number, ancestor in enumerate(a for a in ancestors if "__init__" in vars(a)):
        parameters = inspect.signature(vars(ancestor)["__init__"]).parameters.values()
        names |= {p.name for p in parameters} - {"self"}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names, number > 0  # what a class takes besides its own may go elsewhere than to its ancestor
    return names, True


def _get(registry: Registry, kind: str) -> Any:
    """Return what is called so in a registry or below it, without MMEngine's search for modules."""
    name = kind.rpartition(".")[2]
    if name in registry.module_dict:
        return registry.module_dict[name]
    return next((c for child in registry.children.values() if (c := _get(child, name))), None)


def _registries() -> Iterable[Registry]:
    return (value for value in vars(registries).values() if isinstance(value, Registry))
