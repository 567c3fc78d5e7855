"""``depthwise_conv2d``: one dense kernel per channel, for which PyTorch has no fast code on CPUs when it is large.

Forward and gradient to the kernels are operators that differentiate into each other; the gradient to the map is the
forward with flipped kernels. Compiled kernels do the work on CPUs, PyTorch's own convolution anywhere else.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight
from torch.utils.flop_counter import register_flop_formula

from sw_ops import native
from sw_ops.arguments import check_depthwise, check_kernel_size, check_maps
from sw_ops.backend import native_devices
from sw_ops.operators import autocast, decomposition, register, served_by_pytorch


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel of ``x`` with its own kernel; stride 1, zero padded, same size.

    What ``torch.nn.functional.conv2d(x, weight, bias, padding=(kh // 2, kw // 2), groups=C)`` computes, with kernels of
    this package on CPUs: sums of the plain products, in float32 (float64 for float64).

    Args:
        x: ``[B, C, H, W]``, floating point; contiguous and channels-last memory are the fast ones.
        weight: ``[C, 1, kh, kw]``, both sizes odd.
        bias: ``[C]``.

    Returns:
        ``[B, C, H, W]`` in the dtype and memory format of ``x``, or in the autocast dtype where autocast is on.

    Raises:
        ValueError: for a shape, or a kernel with an even size.
        TypeError: for a dtype or device.

    Example:
        >>> depthwise_conv2d(torch.randn(8, 80, 56, 56), torch.randn(80, 1, 13, 13)).shape
        torch.Size([8, 80, 56, 56])
    """
    if torch.jit.is_scripting():  # whose autocast knows only operators of PyTorch
        return torch.ops.sw_ops.depthwise_conv2d(x, weight.to(x.dtype), bias.to(x.dtype) if bias is not None else None)
    else:
        x, weight, *biases = autocast(x, weight, *(() if bias is None else (bias,)))
        bias = biases[0] if biases else None
        if x.device.type != "cpu" or served_by_pytorch(x):
            return _by_pytorch(x, weight, bias)
        return _forward(x, weight, bias)


def _by_pytorch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_depthwise(x, weight, bias)
    padding = [size // 2 for size in weight.shape[2:]]
    return F.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])


def _weight_grad_by_pytorch(x: Tensor, grad: Tensor, rows: int, columns: int) -> Tensor:
    check_maps(x=x, grad=grad)
    check_kernel_size(rows, columns)
    shape = (x.shape[1], 1, rows, columns)
    return conv2d_weight(x, shape, grad, padding=(rows // 2, columns // 2), groups=x.shape[1])


# --- gradients -------------------------------------------------------------------------------------------------------


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward_forward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    return (
        _forward(grad, weight.flip(2, 3), None) if ctx.needs_input_grad[0] else None,
        _weight_grad(x, grad, weight.shape[2], weight.shape[3]) if ctx.needs_input_grad[1] else None,
        grad.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[2] else None,
    )


def _save_weight_grad(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, grad, _, _ = inputs
    ctx.save_for_backward(x, grad)


def _backward_weight_grad(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    x, grad = ctx.saved_tensors
    return (
        _forward(grad, upstream.flip(2, 3), None) if ctx.needs_input_grad[0] else None,
        _forward(x, upstream, None) if ctx.needs_input_grad[1] else None,
        None,
        None,
    )


# --- registration ----------------------------------------------------------------------------------------------------


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_depthwise(x, weight, bias)
    return torch.empty_like(x)


def _fake_weight_grad(x: Tensor, grad: Tensor, rows: int, columns: int) -> Tensor:
    check_maps(x=x, grad=grad)
    check_kernel_size(rows, columns)
    return x.new_empty(x.shape[1], 1, rows, columns)


_on_cpu = "cpu" in native_devices()
_forward = register(
    "depthwise_conv2d",
    {"CompositeExplicitAutograd": _by_pytorch, **({"CPU": native.depthwise} if _on_cpu else {})},
    _fake_forward,
    _save_forward,
    _backward_forward,
)
_weight_grad = register(
    "depthwise_conv2d_weight_grad",
    {
        "CompositeExplicitAutograd": _weight_grad_by_pytorch,
        **({"CPU": native.depthwise_weight_grad} if _on_cpu else {}),
    },
    _fake_weight_grad,
    _save_weight_grad,
    _backward_weight_grad,
)
decomposition(_forward)(_by_pytorch)


# --- operations, for torch.utils.flop_counter ------------------------------------------------------------------------


@register_flop_formula(torch.ops.sw_ops.depthwise_conv2d)
def _count_forward(x: Any, weight: Any, *rest: Any, **kwargs: Any) -> int:
    return 2 * prod(x) * prod(weight[2:])


@register_flop_formula(torch.ops.sw_ops.depthwise_conv2d_weight_grad)
def _count_weight_grad(x: Any, *rest: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return _count_forward(x, out_shape)
