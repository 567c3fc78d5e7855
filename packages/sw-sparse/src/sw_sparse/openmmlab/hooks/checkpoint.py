"""Checkpoints of OpenMMLab's runner that are read without running code, and are never half-written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from sw_models.errors import InputError
from sw_models.files import write_atomically


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Lets a checkpoint hold sound weights and plain values alone, so that ``torch.load(weights_only=True)`` reads it.

    MMEngine saves its message hub as objects of its own classes, which it then cannot load itself. What they hold is
    running averages of the log; those start afresh when a run is resumed.
    """

    priority = "VERY_LOW"

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Reduce what surrounds the weights to plain values.

        Raises:
            InputError: the training diverged; the checkpoints before it stand.
        """
        for name, value in checkpoint["state_dict"].items():
            if value.is_floating_point() and not value.isfinite().all():
                raise InputError(f"lr: {name} became NaN or infinite; want a lower learning rate or clip_grad")
        checkpoint["message_hub"]["log_scalars"] = {}
        for part in ("message_hub", "meta", "param_schedulers"):
            if part in checkpoint:
                checkpoint[part] = _plain(checkpoint[part])


@register_backend("atomic_local")
class AtomicLocalBackend(LocalBackend):
    """The local disk; a killed process leaves no half-written file under the name it was writing."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes, making the folder where there is none."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write_bytes(obj))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | Tensor | Counter):
        # numpy's floats are Python's floats too, but are saved as numpy's
        return float(value) if isinstance(value, np.floating) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return str(value)
