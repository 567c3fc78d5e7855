"""Checkpoints of other programs: their tensors, under this project's names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from sw_models.checkpoints.keys import convert_published, is_published
from sw_models.checkpoints.load import read_tensors
from sw_models.errors import InputError
from sw_sparse.openmmlab.hooks.checkpoint import AtomicLocalBackend
from sw_sparse.openmmlab.runner import load_model, want_fitting


def convert_foreign(source: Path, out: Path, cfg: Config) -> dict[str, Any]:
    """Write the weights of a foreign checkpoint to a new file, once they were found to fit the configuration's model.

    Nothing but tensors is read: objects of other kinds, such as MMEngine's log, become inert stand-ins, and no code of
    theirs runs. A published backbone gets this project's names; heads keep OpenMMLab's.

    Raises:
        InputError: the file is no checkpoint, or is of another model; the message names what differs.
    """
    model = load_model(cfg).cpu()
    try:
        state = read_tensors(source)
        inside = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
        if is_published(inside):
            around = {key: value for key, value in state.items() if not key.startswith("backbone.")}
            converted = convert_published(inside, model.backbone)
            state = around | {f"backbone.{key}": value for key, value in converted.items()}
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from error
    want_fitting(model, state, source)
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "meta": {"converted_from": source.name}}, buffer)
    AtomicLocalBackend().put(buffer.getvalue(), out)
    return {"file": str(out), "tensors": len(state), "taken from the old file": "tensors alone"}
