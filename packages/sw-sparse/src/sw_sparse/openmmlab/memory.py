"""How many images a training step has memory for."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope

from sw_models.errors import InputError
from sw_sparse.openmmlab.config import SYNTHETIC

_SHARE = 2 / 3  # of what is free; the optimizer's state and larger images need the rest


def largest_batch(cfg: Any, most: int) -> int:
    """Return the largest power of two, at most ``most``, of which a forward and a backward pass fit into memory.

    On a GPU they are tried; on a CPU the use of the larger batches is extrapolated from that of 2 and 4 images.

    Raises:
        InputError: there are no data to try, or not even two images fit.
    """
    if cfg.get("data_root") == SYNTHETIC:
        raise InputError("--batch: auto wants --data; the sample's batch is right for it")
    init_default_scope(cfg.get("default_scope", "mmengine"))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).to(device).train()
    samples = [dataset[number % len(dataset)] for number in range(4)]
    try:
        if device == "cuda":
            return _try_on_gpu(model, samples, most)
        before = _peak()
        used = []
        for count in (2, 4):
            _step(model, samples, count)
            used.append(_peak() - before)
        each = max((used[1] - used[0]) / 2, used[1] / 8, 1.0)
        fitting = int(_SHARE * _free() / each)
    finally:
        del model
    if fitting < 2:
        raise InputError(f"--batch: not even two images fit into memory, each needs {each / 2**20:,.0f} MB")
    return min(most, 1 << fitting.bit_length() - 1)


def _try_on_gpu(model: Any, samples: list[Any], most: int) -> int:
    free, _ = torch.cuda.mem_get_info()
    fitting, count = 0, 2
    while count <= most:
        torch.cuda.reset_peak_memory_stats()
        try:
            _step(model, samples, count)
        except torch.cuda.OutOfMemoryError:
            break
        if torch.cuda.max_memory_allocated() > _SHARE * free:
            break
        fitting, count = count, 2 * count
    torch.cuda.empty_cache()
    if not fitting:
        raise InputError("--batch: not even two images fit into the GPU's memory")
    return fitting


def _step(model: Any, samples: list[Any], count: int) -> None:
    batch = pseudo_collate([samples[number % len(samples)] for number in range(count)])
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    model.zero_grad()


def _peak() -> int:
    """Return the most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _free() -> int:
    """Return the memory that is available, in bytes; half of what there is where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
