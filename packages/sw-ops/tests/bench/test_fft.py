from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sw_ops.bench import fft

from conftest import assert_close_to_maximum, seeded


@pytest.mark.parametrize(("size", "kernel_size"), [(7, 13), (14, 47), (20, 5), (1, 3), (56, 51)])
def test_the_transform_computes_the_convolution(size: int, kernel_size: int) -> None:
    generator = seeded(0)
    x = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 1, kernel_size, kernel_size, generator=generator, dtype=torch.float64)
    got = fft.convolve(x, fft.spectrum_of(weight, size), kernel_size)
    assert_close_to_maximum(got, F.conv2d(x, weight, padding=kernel_size // 2, groups=3), 1e-12)
