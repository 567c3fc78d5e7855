"""Randomness that depends on the seed and the iteration alone, so that a resumed training ends as an unbroken one.

Nothing of random number generators is saved. Batch number ``n`` is loaded, in whichever process, under seeds made of
the run's seed and ``n``, and iteration ``n`` is trained under seeds made of the same.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader

_LOADING, _TRAINING = 0, 1  # two streams


class Batch(list[int]):
    """The indices of a batch's samples, and the seeds that it is loaded under."""

    def __init__(self, indices: list[int], seeds: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.seeds = seeds


class SeededBatches:
    """A batch sampler whose batches carry seeds, and which can start in the middle.

    Args:
        batches: the batch sampler.
        seed: of the run.
        rank: of this process.
        start: how many batches were trained on already.

    Attributes:
        epoch: how often all batches were trained on, 0 if there is no end to them.
        skip: how many batches the next pass leaves out.
    """

    def __init__(self, batches: Any, seed: int, rank: int, start: int) -> None:
        self.batches, self.seed, self.rank, self.position = batches, seed, rank, start
        self.sampler = batches.sampler  # MMEngine tells it the epoch
        self.batch_size = batches.batch_size
        self.epoch, self.skip = 0, start
        if not isinstance(self.sampler, InfiniteSampler):
            self.epoch, self.skip = divmod(start, len(batches))
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(self.epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        skip, self.skip = self.skip, 0
        for indices in itertools.islice(self.batches, skip, None):
            yield Batch(indices, (self.seed, self.rank, _LOADING, self.position))
            self.position += 1


def resumable(loader: DataLoader[Any], seed: int, rank: int, start: int) -> DataLoader[Any]:
    """Return a data loader of the same kind that starts with batch number ``start``, without loading those before."""
    dataset: Any = loader.dataset
    dataset.__getitems__ = partial(_load, dataset)  # PyTorch asks for the samples of a batch at once where it can
    return DataLoader(
        dataset,
        batch_sampler=SeededBatches(loader.batch_sampler, seed, rank, start),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Seed what an iteration draws: dropped paths, sampled regions, masks that grow."""
    _seed((seed, rank, _TRAINING, iteration))


def _load(dataset: Any, batch: Batch) -> list[Any]:
    with _random_state_kept():
        _seed(batch.seeds)
        return [dataset[index] for index in batch]


def _seed(entropy: tuple[int, ...]) -> None:
    words = [int(word) for word in np.random.SeedSequence(entropy).generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])  # noqa: NPY002 - OpenMMLab's transforms draw from it
    torch.manual_seed(words[2])


@contextmanager
def _random_state_kept() -> Iterator[None]:
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(pytorch)
