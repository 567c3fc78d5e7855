"""What the flags of a training mean in a configuration, and what every run gets whatever its configuration says."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import init_dist

from sw_models.errors import InputError

_IN_EVERY_RUN = ("ProgressHook", "CurvesHook", "PlainCheckpointHook")


def use_pretrained(cfg: Any, checkpoint: Path) -> None:
    """Start the backbone from a checkpoint."""
    if not checkpoint.is_file():
        raise InputError(f"--checkpoint: no file {checkpoint}")
    cfg.model.backbone.pretrained = str(checkpoint.resolve())


def use_sparsity(cfg: Any, sparse: str) -> None:
    """Keep the zeros of a sparse checkpoint ("keep"), or train with a share of the small kernels off ("0.3")."""
    if sparse == "keep":
        hook: dict[str, Any] = {"type": "SparsifierHook"}
    else:
        try:
            share = float(sparse)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            raise InputError(f"--sparse: got {sparse}, want 'keep' or a share between 0 and 1")
        hook = {
            "type": "SparsifierHook",
            "sparsity": share,
            "targets": "backbone.*.weights.*",
            "granularity": "shared_filter",
        }
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), hook]


def use_mixed_precision(cfg: Any) -> None:
    """Choose the autocast that the device has: bfloat16, or float16 with a scaled loss on GPUs without it."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.dtype = "float16"
    else:
        cfg.optim_wrapper.type = "BFloat16OptimWrapper"


def use_workers(cfg: Any, workers: int) -> None:
    """Load data in so many processes; 0 is the training process itself."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(name):
            cfg[name].num_workers = workers
            cfg[name].persistent_workers = workers > 0


def use_augmented_tests(cfg: Any) -> None:
    """Test with the scales and flips that the configuration lists in ``tta_pipeline``."""
    if "tta_pipeline" not in cfg or "tta_model" not in cfg:
        raise InputError("--tta: the configuration has no tta_pipeline and tta_model")
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = {**cfg.tta_model, "module": cfg.model}


def settle(cfg: Any) -> Any:
    """Return a copy of a configuration with what every run has: safe checkpoints, logs, and its devices.

    Hooks that every run has are not among its settings, see :mod:`.runner`; old configurations list them.
    """
    cfg = copy.deepcopy(cfg)
    hooks = cfg.get("default_hooks", {})
    checkpoint = {"type": "CheckpointHook", **hooks.get("checkpoint", {}), "backend_args": {"backend": "atomic_local"}}
    cfg.default_hooks = {**hooks, "checkpoint": checkpoint}
    cfg.custom_hooks = [hook for hook in cfg.get("custom_hooks", []) if hook["type"] not in _IN_EVERY_RUN]
    logs = [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}]
    cfg.visualizer = {"type": "Visualizer", **cfg.get("visualizer", {}), "vis_backends": logs}
    cfg.visualizer.pop("name", None)  # by which a second run of a process would find that of the first, and its folder
    if "base_batch_size" in cfg.get("auto_scale_lr", {}):
        cfg.auto_scale_lr.enable = True
    cfg.launcher = "pytorch" if "LOCAL_RANK" in os.environ else "none"
    return cfg


def join_processes(cfg: Any) -> None:
    """Join what torchrun started, if it did; MMEngine by itself expects a GPU for each process."""
    if cfg.launcher != "pytorch":
        return
    if torch.cuda.is_available():
        if not torch.distributed.is_initialized():
            init_dist("pytorch", **cfg.get("env_cfg", {}).get("dist_cfg", {"backend": "nccl"}))
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
    }
