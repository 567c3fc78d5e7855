"""Checkpoints: found in a run's folder, read without running code, fitted to a model, and made of foreign ones."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, MODELS, init_default_scope

from sw_models.checkpoints.fit import load_fitting, want_fitting
from sw_models.checkpoints.keys import convert_published, is_published
from sw_models.checkpoints.load import read_file, read_tensors
from sw_models.errors import InputError
from sw_models.files import write_atomically

INTERRUPTED = "interrupted.pth"  # what a run that was stopped by SIGTERM leaves, until it is trained to the end


def find_checkpoint(folder: Path) -> Path:
    """Return a run's best checkpoint, or its newest.

    Raises:
        InputError: there is none.
    """
    if best := sorted(folder.glob("best_*.pth"), key=lambda path: int(re.findall(r"\d+", path.stem)[-1])):
        return best[-1]
    if (newest := newest_checkpoint(folder)) is not None:
        return newest
    raise InputError(f"no checkpoint in {folder}: train first, or name one with --checkpoint")


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the last iteration that can be read, naming those that cannot."""
    found: list[tuple[int, int, Path]] = []  # of one iteration, that which has ended the epoch
    for path in sorted(folder.glob("*.pth")):
        if re.fullmatch(r"(iter|epoch)_\d+", path.stem) or path.name == INTERRUPTED:
            try:
                meta = read_checkpoint(path)["meta"]
                found.append((int(meta["iter"]), int(meta["epoch"]), path))
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                logging.getLogger(__name__).warning("%s: %s; passed over", path.name, error)
    return max(found)[-1] if found else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds.

    Raises:
        InputError: it is not there, or cannot be read without running code.
    """
    content = read_file(path)
    if not isinstance(content, dict):
        raise InputError(f"checkpoint: {path} holds a {type(content).__name__}, want named tensors")
    return content


def load_model(cfg: Config, checkpoint: Path | None = None, device: str | None = None) -> Any:
    """Return the configuration's model in evaluation mode, with ``cfg`` and ``dataset_meta``.

    Args:
        cfg: the configuration.
        checkpoint: random weights if None.
        device: such as "cpu"; None for the GPU if there is any.

    Raises:
        InputError: the checkpoint is not of this model, or a part of the configuration is not as wanted.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    with input_errors():
        model = MODELS.build(cfg.model)
    model.cfg = cfg
    content = load_weights(model, checkpoint) if checkpoint is not None else {}
    model.dataset_meta = _trained_on(content, model) or _dataset_meta(cfg)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def load_weights(model: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Load a whole model's checkpoint, completely, and return what the file holds.

    Raises:
        InputError: it cannot be read without running code, or is of another model; the message names what differs.
    """
    content = read_checkpoint(path)
    load_fitting(model, read_tensors(content), f"checkpoint: {path} is of another model: it")
    return content


def convert_foreign(source: Path, out: Path, cfg: Config) -> dict[str, Any]:
    """Write the weights of a foreign checkpoint to a new file, once they were found to fit the configuration's model.

    Nothing but tensors is read: objects of other kinds, such as MMEngine's log, become inert stand-ins, and no code of
    theirs runs. A published backbone gets this project's names; heads keep OpenMMLab's.

    Raises:
        InputError: the file is no checkpoint, or is of another model; the message names what differs.
    """
    model = load_model(cfg).cpu()
    state = read_tensors(source)
    inside = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    if is_published(inside):
        around = {key: value for key, value in state.items() if not key.startswith("backbone.")}
        converted = convert_published(inside, model.backbone)
        state = around | {f"backbone.{key}": value for key, value in converted.items()}
    want_fitting(model, state, f"checkpoint: {source} is of another model: it")
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "meta": {"converted_from": source.name}}, buffer)
    write_atomically(out, lambda file: file.write_bytes(buffer.getvalue()))
    return {"file": str(out), "tensors": len(state), "taken from the old file": "tensors alone"}


@contextmanager
def input_errors() -> Iterator[None]:
    """Show what a configuration's parts object to as bad input, and no warnings about how they are built."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise InputError(str(error.args[0] if error.args else error)) from error


def _trained_on(content: Mapping[str, Any], model: torch.nn.Module) -> dict[str, Any]:
    """Return what a checkpoint says of the data that it was trained on; nothing where it does not say.

    Raises:
        InputError: its classes are no names, or too few for the model.
    """
    meta = content.get("meta")
    found = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    if not isinstance(found, Mapping) or (classes := found.get("classes")) is None:
        return {}
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"checkpoint: got the classes {str(classes)[:80]!r}, want a list of names")
    heads = [getattr(part, "num_classes", None) for part in model.modules()]
    outputs = [count for count in heads if isinstance(count, int)]
    if outputs and len(classes) < min(outputs):
        raise InputError(f"checkpoint: got names of {len(classes)} classes, the model has {min(outputs)}")
    return dict(found)


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    """Return what the configuration's test data set says of its classes, without looking for its files."""
    dataset = cfg.test_dataloader.dataset
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope", "mmengine")) as registry:
        kind = registry.get(dataset.type)
    if kind is None or not issubclass(kind, BaseDataset):
        return {}
    return DATASETS.build({**dataset, "lazy_init": True}).metainfo
