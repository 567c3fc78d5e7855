"""Every registered operator checks all that it would read, also when it is called without the function around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sw_ops  # noqa: F401 - registers the operators

C, K, L = 3, 3, 9
MAP = {"x": (2, C, 5, 7)}
KERNELS = {"horizontal": (C, K, L), "vertical": (C, L, K)}
GRADS = dict.fromkeys(("grad_h", "grad_v", "grad_s"), (2, C, 5, 7))
SQUARE, BIAS = {"square": (C, K, K)}, {"bias": (C,)}
OPERATORS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "stripe_conv2d": (MAP | KERNELS | SQUARE, (4,)),
    "stripe_conv2d_fused": (MAP | KERNELS | BIAS, (4,)),
    "stripe_conv2d_input_grad": (GRADS | KERNELS | SQUARE, (4,)),
    "stripe_conv2d_weight_grad": (MAP | GRADS, (L, K, 4)),
    "stripe_conv2d_backward": (GRADS | MAP | KERNELS | SQUARE, (4,)),
}
WRONG = {
    "float16": lambda t: t.half(),
    "bfloat16": lambda t: t.bfloat16(),
    "float64": lambda t: t.double(),
    "int8": lambda t: t.to(torch.int8),
    "bool": lambda t: t.bool(),
    "meta": lambda t: t.to("meta"),
    "shorter": lambda t: t[..., :-1],
    "fewer": lambda t: t[:-1],
    "flat": lambda t: t.flatten(),
    "empty": lambda t: t[:0],
}


def call(name, change=None, how=None):
    shapes, numbers = OPERATORS[name]
    tensors = {key: torch.ones(shape) for key, shape in shapes.items()}
    if change:
        tensors[change] = WRONG[how](tensors[change])
    return getattr(torch.ops.sw_ops, name).default(*tensors.values(), *numbers)


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize(
    ("name", "argument"), [(name, key) for name, (shapes, _) in OPERATORS.items() for key in shapes]
)
def test_a_wrong_argument_is_refused_before_memory_is_read(name, argument, how):
    alone = not GRADS.keys() & OPERATORS[name][0].keys()
    of_any_size = argument == "x" and alone and how in ("shorter", "fewer", "empty")
    if of_any_size or (argument, how) == ("bias", "flat"):
        call(name, argument, how)
        return
    with pytest.raises((ValueError, TypeError), match=r"^\w+: got .*, want "):
        call(name, argument, how)


@pytest.mark.parametrize("name", OPERATORS)
def test_right_arguments_are_taken(name):
    call(name)


@pytest.mark.parametrize("numbers", [(L, K, -1), (L, K, L), (L, 2, 4), (L, 0, 4), (L, -1, 4), (1, 3, 0), (0, 0, 0)])
def test_a_stripe_of_impossible_size_is_refused(numbers):
    maps = [torch.ones(2, C, 5, 7)] * 4
    with pytest.raises(ValueError, match="got"):
        torch.ops.sw_ops.stripe_conv2d_weight_grad.default(*maps, *numbers)
