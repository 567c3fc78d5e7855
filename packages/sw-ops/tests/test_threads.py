"""Many threads share the operators: with a GIL, and without one."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sw_ops import ShiftTable, backend, shiftwise_conv2d

THREADS = 8


def forward_and_backward(seed: int) -> list[torch.Tensor]:
    """Maps and gradients of a size and memory layout that differ from one seed to the next."""
    generator = torch.Generator().manual_seed(seed)
    channels, size = 4 + 2 * (seed % 5), 9 + seed % 7
    n_slots = 5 + seed % 3
    table = ShiftTable.shuffled(channels, 3 * n_slots, 3, 4)
    x = torch.randn(2, channels, size, size + seed % 3, generator=generator)
    x = x.to(memory_format=(torch.contiguous_format, torch.channels_last)[seed % 2]).requires_grad_()
    weight = torch.randn(channels * n_slots, 1, 3, 3, generator=generator, requires_grad=True)
    maps = shiftwise_conv2d(x, weight, table)
    gradients = torch.autograd.grad(sum(part.square().sum() for part in maps), (x, weight))
    return [*maps, *gradients]


def test_eight_threads_compute_what_one_does() -> None:
    alone = [forward_and_backward(seed) for seed in range(64)]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(forward_and_backward, range(64)))
    for expected, got in zip(alone, together, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.skipif("t" not in sys.abiflags, reason="this Python has a GIL anyway")
def test_the_compiled_module_leaves_the_gil_off() -> None:
    assert backend._C is not None
    is_gil_enabled = "_is_gil_enabled"  # which Python 3.13 has
    assert getattr(sys, is_gil_enabled)() is False
