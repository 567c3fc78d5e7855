from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sw_ops import reference, stripe_conv2d, stripe_conv2d_fused, use_backend
from sw_ops.reference import depthwise, toeplitz

from conftest import assert_close_to_maximum, seeded

STRIPES = pytest.mark.parametrize(
    ("length", "thickness", "anchor"), [(51, 3, 25), (48, 3, 23), (15, 5, 6), (3, 3, 0), (9, 1, 8)]
)


def problem(size: tuple[int, int], length: int, thickness: int, batch: int = 2) -> list[Tensor]:
    """Return ``x``, a horizontal and a vertical stripe."""
    shapes = [(batch, 3, *size), (3, thickness, length), (3, length, thickness)]
    return [
        torch.randn(shape, generator=seeded(i), dtype=torch.float64, requires_grad=True)
        for i, shape in enumerate(shapes)
    ]


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU compute as a GPU without kernels does."""
    monkeypatch.setattr(reference, "_MATRIX_PRODUCTS", ("cpu",))


@pytest.mark.parametrize("size", [(5, 56), (14, 14), (3, 7), (1, 1)])
@STRIPES
def test_matrix_products_equal_the_convolutions(
    size: tuple[int, int], length: int, thickness: int, anchor: int
) -> None:
    x, horizontal, vertical = tensors = problem(size, length, thickness)
    got, centre = toeplitz(*tensors, anchor), thickness // 2
    want = depthwise(x, horizontal, centre, anchor), depthwise(x, vertical, anchor, centre)
    upstream = [torch.randn(x.shape, generator=seeded(9), dtype=torch.float64) for _ in want]
    results = zip(
        [*got, *torch.autograd.grad(got, tensors, upstream)],
        [*want, *torch.autograd.grad(want, tensors, upstream)],
        strict=True,
    )
    for g, w in results:
        assert_close_to_maximum(g, w, 1e-13)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
def test_matrix_products_keep_the_layout_and_serve_no_images(layout: torch.memory_format, on_a_gpu: None) -> None:
    x, *stripes = problem((6, 9), 15, 3)
    x = x.contiguous(memory_format=layout)
    maps = reference.stripe_conv2d(x, *stripes, stripes[0][:, :, :3], 7)
    assert [m.stride() for m in maps] == [x.stride()] * 3
    assert reference.stripe_conv2d(x[:0], *stripes, stripes[0][:, :, :3], 7)[1].shape == (0, *x.shape[1:])


def kept(x: Tensor, *others: Tensor) -> int:
    """Count the bytes that autograd keeps of a forward, ``x`` not included."""
    storages: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), use_backend("torch"):
        stripe_conv2d(x, *others)
    storages.pop(x.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def test_a_gpu_without_kernels_keeps_one_copy_of_the_map(on_a_gpu: None) -> None:
    length, size = 51, 56
    x = torch.randn(16, 4, size, size, generator=seeded(0), requires_grad=True)
    kernels = [torch.randn(shape, requires_grad=True) for shape in ((4, 3, length), (4, length, 3), (4, 3, 3))]
    copy = x.nbytes * (size + 2) ** 2 / size**2
    bands = 2 * 4 * (size + 2) * 3 * size * 4
    assert kept(x, *kernels, length // 2) <= copy + bands + sum(kernel.nbytes for kernel in kernels)


def test_a_cpu_without_kernels_keeps_one_copy_of_the_map() -> None:
    x = torch.randn(4, 4, 56, 56, generator=seeded(0), requires_grad=True)
    kernels = [torch.randn(shape, requires_grad=True) for shape in ((4, 3, 51), (4, 51, 3), (4, 3, 3))]
    copy = x.nbytes * (56 + 50) / 56  # for the horizontal stripe, with zeros before and behind its lines
    assert kept(x, *kernels, 25) <= copy + sum(kernel.nbytes for kernel in kernels)


def test_the_operators_compute_the_same_through_matrix_products(on_a_gpu: None) -> None:
    x, horizontal, vertical = tensors = problem((9, 12), 21, 3)
    square, bias = horizontal[:, :, :3] * 2, horizontal[:, 0, 0]
    with use_backend("torch"):
        got = [*stripe_conv2d(*tensors, square, 10), stripe_conv2d_fused(*tensors, bias, 10)]
    h, v = depthwise(x, horizontal, 1, 10), depthwise(x, vertical, 10, 1)
    want = [h, v, depthwise(x, square, 1, 1), h + v + bias[:, None, None]]
    for g, w in zip(got, want, strict=True):
        assert_close_to_maximum(g, w, 1e-13)
