"""How many images a training step has memory for."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mmengine.dataset  # noqa: F401 - the functions that make batches
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, init_default_scope
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sw_models.errors import InputError
from sw_sparse.openmmlab.config import SYNTHETIC

_SHARE = 2 / 3  # of what is free; the optimizer's state and larger images need the rest


def largest_batch(cfg: Any, most: int) -> int:
    """Return the largest power of two, at most ``most``, of which a forward and a backward pass fit into memory.

    On a GPU they are tried. On a CPU the bytes that tensors hold with 2 and with 4 images say what one image needs, for
    a process that asks for too much is killed without a word.

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
    how = dict(cfg.train_dataloader.get("collate_fn", {"type": "pseudo_collate"}))
    collate = partial(FUNCTIONS.get(how.pop("type")), **how)

    def step(count: int) -> None:
        batch = collate([samples[number % len(samples)] for number in range(count)])
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
        model.parse_losses(losses)[0].backward()
        model.zero_grad()

    if device == "cuda":
        return _try_on_gpu(step, most)
    peaks = []
    for count in (2, 4):
        with TensorBytes() as used:
            step(count)
        peaks.append(used.peak)
    each = max((peaks[1] - peaks[0]) / 2, 1.0)
    fitting = int(_SHARE * _free() / each)
    if fitting < 2:
        raise InputError(f"--batch: not even two images fit into memory, each needs {each / 2**20:,.0f} MB")
    return min(most, 1 << fitting.bit_length() - 1)


class TensorBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is active.

    Attributes:
        now: of those that are still there.
        peak: the most at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and note the memory of its results that is new."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (key := (storage := tensor.untyped_storage())._cdata) not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, key)
        return result

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def _try_on_gpu(step: Callable[[int], None], most: int) -> int:
    free, _ = torch.cuda.mem_get_info()
    fitting, count = 0, 2
    while count <= most:
        torch.cuda.reset_peak_memory_stats()
        try:
            step(count)
        except torch.cuda.OutOfMemoryError:
            break
        if torch.cuda.max_memory_allocated() > _SHARE * free:
            break
        fitting, count = count, 2 * count
    torch.cuda.empty_cache()
    if not fitting:
        raise InputError("--batch: not even two images fit into the GPU's memory")
    return fitting


def _free() -> int:
    """Return the memory that is available, in bytes; half of what there is where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
