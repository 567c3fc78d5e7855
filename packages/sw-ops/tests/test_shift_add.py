from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sw_ops import ShiftTable, shift_add, shiftwise_conv2d

from conftest import Golden, assert_close_to_maximum

GOLDEN = Golden("A_ops")
CASES = [key for key, case in GOLDEN.about["cases"].items() if case["op"] == "mp"]


@pytest.mark.parametrize("key", CASES)
def test_published_outputs_and_gradients_are_reproduced(key: str) -> None:
    case, tensors = GOLDEN.about["cases"][key], GOLDEN.under(f"{key}/")
    table = ShiftTable.from_published(
        case["big_kernel"], case["small_kernel"], tensors["pad_hv"], tensors["idx_identit"]
    )
    y = tensors["input"].clone().requires_grad_()
    outputs = shift_add(y, table, (case["H"], case["W"]))
    for got, name in zip(outputs, ("h", "v", "id"), strict=True):
        assert_close_to_maximum(got, tensors[f"output_{name}"], 1e-5)
    upstream = [tensors[f"grad_output_{name}"] for name in ("h", "v", "id")]
    (grad,) = torch.autograd.grad(outputs, y, upstream)
    assert_close_to_maximum(grad, tensors["grad_input"], 2e-5)


@pytest.mark.parametrize("size", [(14, 14), (5, 9), (1, 1)])
@pytest.mark.parametrize(("kernel_size", "small_kernel"), [(51, 3), (49, 3), (13, 3), (51, 5), (5, 5)])
def test_convolving_then_shifting_is_the_stripe_form(
    kernel_size: int, small_kernel: int, size: tuple[int, int], backend: str, generator: torch.Generator
) -> None:
    table = ShiftTable.shuffled(3, kernel_size, small_kernel, n_rep=4)
    shape = (3 * table.slots, 1, small_kernel, small_kernel)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(3)]

    published = shift_add(F.conv2d(x, weight, padding=small_kernel - 1, groups=3), table, size)
    ours = shiftwise_conv2d(x, weight, table)
    for got, want in zip(ours, published, strict=True):
        assert_close_to_maximum(got, want, 1e-12)
    got_grads = torch.autograd.grad(ours, (x, weight), upstream)
    want_grads = torch.autograd.grad(published, (x, weight), upstream)
    for got, want in zip(got_grads, want_grads, strict=True):
        assert_close_to_maximum(got, want, 1e-12)


def test_bad_inputs_are_named() -> None:
    table = ShiftTable.shuffled(2, 13, 3, n_rep=1)
    with pytest.raises(ValueError, match=r"y: got shape \(1, 9, 6, 6\), want \[batch, 10, 6, 6\] for size \(4, 4\)"):
        shift_add(torch.zeros(1, 9, 6, 6), table, (4, 4))
    with pytest.raises(TypeError, match="y: got torch.int64, want a floating-point tensor"):
        shift_add(torch.zeros(1, 10, 6, 6, dtype=torch.int64), table, (4, 4))
