"""What fits a configuration to somebody's data: length, image size, learning rate, batch, patience.

Each changes everything that hangs on it: schedules end where training does, and crops grow with images.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from mmengine.registry import DATASETS

from sw_models.errors import InputError
from sw_sparse.openmmlab.config import SYNTHETIC
from sw_sparse.openmmlab.data_report import say

_ENDS = ("begin", "end", "T_max", "total_iters", "step_size")
_SIZES = ("scale", "scales", "crop_size", "size", "img_scale")
_STRIDE = 32  # of the deepest features: sizes that are its multiples stay so


def use_epochs(cfg: Any, epochs: int) -> None:
    """Train so many times with every image; a configuration that counts iterations gets as many as that takes.

    Raises:
        InputError: the images cannot be counted.
    """
    if "max_epochs" in cfg.train_cfg:
        _stretch(cfg, "max_epochs", epochs)
        return
    if cfg.get("data_root") == SYNTHETIC:
        raise InputError("--epochs: the sample is not drawn yet; want --iterations")
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope", "mmengine")) as registry:
        images = len(registry.build(cfg.train_dataloader.dataset))
    batch = cfg.train_dataloader.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    _stretch(cfg, "max_iters", epochs * math.ceil(images / batch))


def use_iterations(cfg: Any, iterations: int) -> None:
    """Train so many batches.

    Raises:
        InputError: the configuration counts epochs.
    """
    if "max_iters" not in cfg.train_cfg:
        raise InputError("--iterations: the configuration counts epochs; want --epochs")
    _stretch(cfg, "max_iters", iterations)


def use_size(cfg: Any, size: int) -> None:
    """Scale all sizes of images, so that tests are with images whose shorter side, or crops, have ``size`` pixels.

    Raises:
        InputError: the configuration takes images as they are.
    """
    own = shorter_side(cfg)
    if own is None or next(_sizes_in(cfg.train_dataloader.dataset.pipeline), None) is None:
        raise InputError("--size: the configuration takes images as they are; choose another one")
    factor = size / own
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.pipeline = _scaled(cfg[name].dataset.pipeline, factor)
    if crop := cfg.model.get("data_preprocessor", {}).get("size"):
        cfg.model.data_preprocessor.size = _times(crop, factor)
        for key in ("crop_size", "stride"):
            if key in cfg.model.get("test_cfg", {}):
                cfg.model.test_cfg[key] = _times(cfg.model.test_cfg[key], factor)


def shorter_side(cfg: Any) -> int | None:
    """Return the shorter side of images in tests, or of crops, in pixels; None where images are taken as they are."""
    crop = cfg.model.get("data_preprocessor", {}).get("size")
    sides = crop or next(_sizes_in(cfg.val_dataloader.dataset.pipeline), None)
    return min(sides) if sides else None


def use_learning_rate(cfg: Any, rate: float) -> None:
    """Train with this rate, whatever the batch; the schedule's last rate moves along.

    Raises:
        InputError: it is no positive number.
    """
    if not 0 < rate < math.inf:
        raise InputError(f"--lr: got {rate}, want a positive number")
    factor = rate / cfg.optim_wrapper.optimizer.lr
    cfg.optim_wrapper.optimizer.lr = rate
    cfg.auto_scale_lr = {"enable": False}
    for scheduler in cfg.get("param_scheduler") or []:
        if scheduler.get("eta_min"):
            scheduler.eta_min *= factor


def batch_size(cfg: Any, stated: str) -> int:
    """Return a stated number of images, or for "auto" the largest that fits into memory.

    Batches double until two thirds of the memory that is free are used, or the batch is four times that which the
    learning rate is for: larger ones train worse.

    Raises:
        InputError: it is neither.
    """
    if stated != "auto":
        if not stated.isdigit() or not int(stated):
            raise InputError(f"--batch: got {stated}, want a number of images or auto")
        return int(stated)
    from sw_sparse.openmmlab.memory import largest_batch

    most = 4 * cfg.get("auto_scale_lr", {}).get("base_batch_size", cfg.train_dataloader.batch_size)
    found = largest_batch(cfg, most)
    say(f"a batch of {found} images fits into memory")
    return found


def use_patience(cfg: Any, validations: int) -> None:
    """Stop after so many validations without a better metric.

    Raises:
        InputError: the configuration does not say by what metric its best checkpoint is chosen.
    """
    chosen = cfg.get("default_hooks", {}).get("checkpoint", {})
    metric = chosen.get("save_best")
    if not isinstance(metric, str) or metric == "auto":
        raise InputError("--patience: the configuration has no metric in default_hooks.checkpoint.save_best")
    hook = {"type": "PatienceHook", "metric": metric, "patience": validations, "rule": chosen.get("rule") or "greater"}
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), hook]


def _stretch(cfg: Any, key: str, count: int) -> None:
    """Set the length of training, and move what the schedule has in the same unit; shorter ones validate more often.

    Parts of the schedule that have no step left, such as a warm-up in ten steps, go.
    """
    before = cfg.train_cfg[key]
    cfg.train_cfg[key] = count
    by_epoch = key == "max_epochs"
    for scheduler in cfg.get("param_scheduler") or []:
        if scheduler.get("by_epoch", True) != by_epoch:
            continue
        for end in _ENDS:
            if isinstance(scheduler.get(end), int):
                scheduler[end] = round(scheduler[end] * count / before)
        if "milestones" in scheduler:
            scheduler.milestones = [round(one * count / before) for one in scheduler.milestones]
    if cfg.get("param_scheduler"):
        cfg.param_scheduler = [s for s in cfg.param_scheduler if s.get("begin", 0) < s.get("end", math.inf)]
    checkpoint = cfg.get("default_hooks", {}).get("checkpoint", {})
    for place, name in ((cfg.train_cfg, "val_interval"), (checkpoint, "interval")):
        if count < before and place.get(name, 0) > 1:
            place[name] = max(1, round(place[name] * count / before))


def _sizes_in(pipeline: Any) -> Iterator[tuple[int, ...]]:
    """Yield the sizes of images in a pipeline."""
    if isinstance(pipeline, dict):
        for key, value in pipeline.items():
            if key in _SIZES and isinstance(value, list | tuple):
                flat = value[0] if isinstance(value[0], list | tuple) else value
                yield tuple(flat)
            else:
                yield from _sizes_in(value)
    elif isinstance(pipeline, list | tuple):
        for item in pipeline:
            yield from _sizes_in(item)


def _scaled(part: Any, factor: float) -> Any:
    """Return a pipeline with all sizes multiplied."""
    if isinstance(part, dict):
        return {
            k: _times(v, factor) if k in _SIZES and isinstance(v, list | tuple) else _scaled(v, factor)
            for k, v in part.items()
        }
    return [_scaled(item, factor) for item in part] if isinstance(part, list) else part


def _times(value: Any, factor: float) -> Any:
    """Return a size, or sizes, multiplied."""
    if isinstance(value, list | tuple):
        return type(value)(_times(item, factor) for item in value)
    if not value % _STRIDE:
        return max(_STRIDE, round(value * factor / _STRIDE) * _STRIDE)
    return round(value * factor)
