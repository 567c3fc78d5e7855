"""The promises of ``exact=True``, which the fast algorithm cannot make."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sw_ops import (
    FusedShiftwiseConv2d,
    ShiftwiseConv2d,
    reparameterize,
    stripe_conv2d,
    stripe_conv2d_fused,
    use_backend,
)

from conftest import seeded

LENGTH, ANCHOR = 15, 7
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])


def problem(size: int, layout: torch.memory_format, low: int = -4, high: int = 5) -> list[torch.Tensor]:
    generator = seeded(0)
    shapes = [(1, 9, size, size), (9, 3, LENGTH), (9, LENGTH, 3), (9, 3, 3)]
    x, *kernels = (torch.randint(low, high, shape, generator=generator).float() for shape in shapes)
    return [x.contiguous(memory_format=layout), *kernels]


def every_map(x: torch.Tensor, *kernels: torch.Tensor, exact: bool) -> list[torch.Tensor]:
    fused = stripe_conv2d_fused(x, *kernels[:2], kernels[2][:, 0, 0], ANCHOR, exact=exact)
    return [*stripe_conv2d(x, *kernels, ANCHOR, exact=exact), fused]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("size", [7, 20, 33])
@LAYOUTS
def test_a_bad_number_stays_within_the_reach_of_the_kernel(size: int, bad: float, layout: torch.memory_format) -> None:
    x, *kernels = problem(size, layout, 1, 5)  # kernels without zeros, which would make NaN of an infinity
    row, column = size // 2, size // 3
    x[0, :, row, column] = bad
    tall, wide = LENGTH - 1 - ANCHOR, ANCHOR
    for y, (up, down, left, right) in zip(
        every_map(x, *kernels, exact=True)[:3], [(1, 1, tall, wide), (tall, wide, 1, 1), (1, 1, 1, 1)], strict=True
    ):
        reached = torch.zeros(size, size, dtype=torch.bool)
        reached[max(0, row - up) : row + down + 1, max(0, column - left) : column + right + 1] = True
        assert torch.equal(~y[0].isfinite(), reached.expand(9, -1, -1))
        assert torch.equal(y[0].isnan(), (reached & (bad != bad)).expand(9, -1, -1))  # an infinity stays one


@pytest.mark.parametrize("size", [7, 20, 33])
@LAYOUTS
def test_integers_are_exact_in_outputs_and_gradients(size: int, layout: torch.memory_format) -> None:
    def results(dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in problem(size, layout)]
        maps = every_map(*leaves, exact=True)
        upstream = [torch.randint(-4, 5, m.shape, generator=seeded(k)).to(dtype) for k, m in enumerate(maps)]
        return [*maps, *torch.autograd.grad(maps, leaves, upstream)]

    got = results(torch.float32)
    with use_backend("torch"):
        want = results(torch.float64)
    for g, w in zip(got, want, strict=True):
        assert torch.equal(g.double(), w)


def test_zeros_beside_large_numbers_stay_zero() -> None:
    x, *kernels = problem(33, torch.contiguous_format)
    x.zero_()[0, :, 10] = 1e6
    h = stripe_conv2d(x, *(k + 0.1 for k in kernels), ANCHOR, exact=True)[0]
    assert not h[0, :, torch.arange(33).sub(10).abs() > 1].any()


def test_the_fast_algorithm_is_as_accurate_as_pytorch_relative_to_the_maximum() -> None:
    generator = seeded(3)
    x = torch.randn(2, 8, 56, 56, generator=generator)
    horizontal, vertical = torch.randn(8, 3, 51, generator=generator), torch.randn(8, 51, 3, generator=generator)
    y = stripe_conv2d(x, horizontal, vertical, torch.zeros(8, 3, 3), 25)[0]
    exact = F.conv2d(x.double(), horizontal[:, None].double(), padding=(1, 25), groups=8)
    direct = F.conv2d(x, horizontal[:, None], padding=(1, 25), groups=8)
    error, error_of_pytorch = ((t.double() - exact).abs().max() / exact.abs().max() for t in (y, direct))
    assert error < 1e-6
    assert error < 4 * error_of_pytorch


def test_the_layer_and_its_deployed_form_keep_the_choice() -> None:
    layer = ShiftwiseConv2d(6, 13, exact=True).eval()
    fused = reparameterize(torch.nn.Sequential(layer))[0]
    assert isinstance(fused, FusedShiftwiseConv2d)
    assert fused.exact
    assert "exact=True" in repr(layer)
    assert "exact=True" in repr(fused)
    x = torch.zeros(1, 6, 33, 33)
    x[0, :, 10, 10] = float("nan")
    reached = torch.zeros(33, 33, dtype=torch.bool)
    reached[4:17, 4:17] = True  # 13 taps around the pixel, and slots stand one beyond
    for y in (layer(x), fused(x), torch.compile(fused, backend="eager", fullgraph=True)(x)):
        assert y.isnan().any()
        assert not y[0].isnan()[:, ~F.max_pool2d(reached[None].float(), 5, 1, 2)[0].bool()].any()
    assert not reparameterize(ShiftwiseConv2d(6, 13).eval()).exact
