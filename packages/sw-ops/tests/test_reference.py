from __future__ import annotations

import pytest
import torch

from sw_ops.reference import depthwise, toeplitz

from conftest import assert_close_to_maximum


@pytest.mark.parametrize("size", [(5, 56), (14, 14), (3, 7), (1, 1)])
@pytest.mark.parametrize(("length", "thickness", "anchor"), [(51, 3, 25), (48, 3, 23), (15, 5, 6), (3, 3, 0)])
def test_matrix_products_equal_the_convolution(
    size: tuple[int, int], length: int, thickness: int, anchor: int, generator: torch.Generator
) -> None:
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(3, thickness, length, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    got, want = toeplitz(x, kernel, anchor), depthwise(x, kernel, thickness // 2, anchor)
    assert_close_to_maximum(got, want, 1e-13)
    for g, w in zip(
        torch.autograd.grad(got, (x, kernel), upstream), torch.autograd.grad(want, (x, kernel), upstream), strict=True
    ):
        assert_close_to_maximum(g, w, 1e-13)
