"""``stripe_conv2d``: three depthwise convolutions of one map, with a wide, a tall and a square kernel.

Forward, gradient to the input and gradient to the kernels are three operators that differentiate into each other, so
gradients of any order exist. Each is registered with ``torch.library``; compiled kernels do the work (``native.py``).
Where there is none for a device or dtype, the same convolutions run as PyTorch's own (``reference.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import register_flop_formula

from sw_ops import native, onnx_nodes, reference
from sw_ops.arguments import check_kernels, check_maps, check_stripe
from sw_ops.backend import native_devices
from sw_ops.maps import select_channels
from sw_ops.operators import autocast, decomposition, register, served_by_pytorch


def stripe_conv2d(
    x: Tensor, horizontal: Tensor, vertical: Tensor, square: Tensor, anchor: int, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve every channel of ``x`` with its wide, its tall and its square kernel; zero padded, same size.

    Args:
        x: ``[B, C, H, W]``, floating point; contiguous and channels-last memory are the fast ones.
        horizontal: ``[C, k, L]``; column ``m`` acts at ``dx = m - anchor``, rows are centred.
        vertical: ``[C, L, k]``; row ``m`` acts at ``dy = m - anchor``, columns are centred.
        square: ``[C, k, k]``, centred.
        anchor: the tap of the long axis that stands on the pixel itself, ``kernel_size // 2`` for a shift-wise layer.
        exact: on a CPU, add up the plain products, in the gradients too. The default for ``k = 3`` is Winograd's F(4,
            3), which is faster and as accurate relative to the largest numbers nearby, but not to each sum: sums of
            integers are not exact, an output that should be 0 beside numbers of 1e6 is not, and a NaN or an infinity
            reaches further than the kernel. GPU kernels have no such algorithm; there an infinity or a NaN makes NaNs
            of its line, with ``exact`` or without.

    Returns:
        The three maps, each ``[B, C, H, W]`` in the dtype and memory format of ``x``. Under autocast everything is
        computed in the autocast dtype, with sums in float32.
    """
    if torch.jit.is_scripting():  # whose autocast knows only operators of PyTorch
        horizontal, vertical, square = horizontal.to(x.dtype), vertical.to(x.dtype), square.to(x.dtype)
        return torch.ops.sw_ops.stripe_conv2d(x, horizontal, vertical, square, anchor, exact)
    else:
        x, horizontal, vertical, square = autocast(x, horizontal, vertical, square)
        if not served_by_pytorch(x):
            return _forward(x, horizontal, vertical, square, anchor, exact)
        check_maps(x=x)
        check_kernels(x, horizontal, vertical, anchor, square=square)
        horizontal, vertical, square = _of_known_shape(horizontal, vertical, square)
        return reference.stripe_conv2d(x, horizontal, vertical, square, anchor)


def stripe_conv2d_fused(
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    bias: Tensor,
    anchor: int,
    exact: bool = False,
    channels: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    """Add the horizontal and the vertical stripe convolution of ``x`` and a bias, written as one map.

    This is the inference form: a square kernel, batch norms and a residual fold into the stripes and the bias.

    Args:
        x: ``[B, C, H, W]``, floating point.
        horizontal: ``[R, k, L]``, as for :func:`stripe_conv2d`; ``R`` is ``C`` without ``channels``.
        vertical: ``[R, L, k]``.
        bias: ``[R]``.
        anchor: the tap of the long axis that stands on the pixel itself.
        exact: as for :func:`stripe_conv2d`.
        channels: int64 ``[R]``, the channels of the output that are convolved, each once; the others are copied.
        order: int64 ``[C]``, for use with ``channels``: which channel of ``x`` each channel of the output is made of.

    Returns:
        ``[B, C, H, W]`` in the dtype and memory format of ``x``.
    """
    if torch.jit.is_scripting():  # as above
        horizontal, vertical, bias = horizontal.to(x.dtype), vertical.to(x.dtype), bias.to(x.dtype)
        return torch.ops.sw_ops.stripe_conv2d_fused(x, horizontal, vertical, bias, anchor, exact, channels, order)
    else:
        x, horizontal, vertical, bias = autocast(x, horizontal, vertical, bias)
        # Tools that spread a model over devices leave constants behind.
        channels, order = (None if numbers is None else numbers.to(x.device) for numbers in (channels, order))
        if onnx_nodes.written(x):
            check_kernels(x, horizontal, vertical, anchor, bias=bias, channels=channels, order=order)
            return onnx_nodes.stripe_conv(x, horizontal, vertical, bias, anchor, exact, channels, order)
        if not served_by_pytorch(x):
            return _fused(x, horizontal, vertical, bias, anchor, exact, channels, order)
        check_maps(x=x)
        check_kernels(x, horizontal, vertical, anchor, bias=bias, channels=channels, order=order)
        horizontal, vertical = _of_known_shape(horizontal, vertical)
        return reference.stripe_conv2d_fused(x, horizontal, vertical, bias, anchor, channels, order)


def _of_known_shape(*kernels: Tensor) -> tuple[Tensor, ...]:
    """Return kernels that were computed in a trace with their sizes as constants, without which ONNX has no conv."""
    if not torch.jit.is_tracing():
        return kernels
    return tuple(kernel.reshape([int(size) for size in kernel.shape]) for kernel in kernels)


# --- gradients -------------------------------------------------------------------------------------------------------
# forward(x; K), input_grad(g; K) and weight_grad(x, g) are the three partial derivatives of one trilinear form
# <g, K * x>; the derivative of each is made of the other two. backward(g; x, K) is the last two at once.


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, horizontal, vertical, square, ctx.anchor, ctx.exact = inputs
    ctx.save_for_backward(x, horizontal, vertical, square)


def _backward_forward(ctx: Any, grad_h: Tensor, grad_v: Tensor, grad_s: Tensor) -> tuple[Tensor | None, ...]:
    x, horizontal, vertical, square = ctx.saved_tensors
    if ctx.needs_input_grad[0] and any(ctx.needs_input_grad[1:4]):
        return (*_backward(grad_h, grad_v, grad_s, x, horizontal, vertical, square, ctx.anchor, ctx.exact), None, None)
    grad_x = grad_kernels = None
    if ctx.needs_input_grad[0]:
        grad_x = _input_grad(grad_h, grad_v, grad_s, horizontal, vertical, square, ctx.anchor, ctx.exact)
    if any(ctx.needs_input_grad[1:4]):
        grad_kernels = _weight_grad(
            x, grad_h, grad_v, grad_s, horizontal.shape[2], horizontal.shape[1], ctx.anchor, ctx.exact
        )
    return (grad_x, *(grad_kernels or (None, None, None)), None, None)


def _save_input_grad(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.anchor, ctx.exact = inputs
    ctx.save_for_backward(*tensors)


def _backward_input_grad(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_h, grad_v, grad_s, horizontal, vertical, square = ctx.saved_tensors
    maps = _forward(grad, horizontal, vertical, square, ctx.anchor, ctx.exact)
    kernels = _weight_grad(
        grad, grad_h, grad_v, grad_s, horizontal.shape[2], horizontal.shape[1], ctx.anchor, ctx.exact
    )
    return (*maps, *kernels, None, None)


def _save_weight_grad(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, grad_h, grad_v, grad_s, _, _, ctx.anchor, ctx.exact = inputs
    ctx.save_for_backward(x, grad_h, grad_v, grad_s)


def _backward_weight_grad(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    x, grad_h, grad_v, grad_s = ctx.saved_tensors
    grad_x = _input_grad(grad_h, grad_v, grad_s, *grads, ctx.anchor, ctx.exact)
    return (grad_x, *_forward(x, *grads, ctx.anchor, ctx.exact), None, None, None, None)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.anchor, ctx.exact = inputs
    ctx.save_for_backward(*tensors)


def _backward_backward(ctx: Any, grad: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:
    *upstream, x, horizontal, vertical, square = ctx.saved_tensors
    through_x = _forward(grad, horizontal, vertical, square, ctx.anchor, ctx.exact)
    through_kernels = _forward(x, *grads, ctx.anchor, ctx.exact)
    grad_x = _input_grad(*upstream, *grads, ctx.anchor, ctx.exact)
    kernels = _weight_grad(grad, *upstream, horizontal.shape[2], horizontal.shape[1], ctx.anchor, ctx.exact)
    return (*(a + b for a, b in zip(through_x, through_kernels, strict=True)), grad_x, *kernels, None, None)


def _save_fused(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, horizontal, vertical, _, ctx.anchor, ctx.exact, channels, order = inputs
    ctx.save_for_backward(x, horizontal, vertical, channels, order)


def _backward_fused(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, horizontal, vertical, channels, order = ctx.saved_tensors
    thickness, length = horizontal.shape[1:]
    grad_x = grad_horizontal = grad_vertical = grad_bias = None
    if ctx.needs_input_grad[0]:  # the transpose of a convolution is the convolution with the flipped kernel
        no_bias = horizontal.new_zeros(horizontal.shape[0])
        flipped = horizontal.flip(1, 2), vertical.flip(1, 2)
        grad_x = _fused(grad, *flipped, no_bias, length - 1 - ctx.anchor, ctx.exact, channels)
        grad_x = grad_x if order is None else select_channels(grad_x, order.argsort())
    if channels is not None:
        x = select_channels(x, channels if order is None else order[channels])
        grad = select_channels(grad, channels)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        grad_horizontal, grad_vertical, _ = _weight_grad(x, grad, grad, grad, length, thickness, ctx.anchor, ctx.exact)
    if ctx.needs_input_grad[3]:
        grad_bias = grad.sum(dim=(0, 2, 3))
    return grad_x, grad_horizontal, grad_vertical, grad_bias, None, None, None, None


# --- registration ----------------------------------------------------------------------------------------------------


def _fake_forward(
    x: Tensor, horizontal: Tensor, vertical: Tensor, square: Tensor, anchor: int, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    check_maps(x=x)
    check_kernels(x, horizontal, vertical, anchor, square=square)
    return torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)


def _fake_input_grad(
    grad_h: Tensor,
    grad_v: Tensor,
    grad_s: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    square: Tensor,
    anchor: int,
    exact: bool = False,
) -> Tensor:
    check_maps(grad_h=grad_h, grad_v=grad_v, grad_s=grad_s)
    check_kernels(grad_h, horizontal, vertical, anchor, square=square)
    return torch.empty_like(grad_h)


def _fake_weight_grad(
    x: Tensor,
    grad_h: Tensor,
    grad_v: Tensor,
    grad_s: Tensor,
    length: int,
    thickness: int,
    anchor: int,
    exact: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    check_maps(x=x, grad_h=grad_h, grad_v=grad_v, grad_s=grad_s)
    check_stripe(length, thickness, anchor)
    channels = x.shape[1]
    return (
        x.new_empty(channels, thickness, length),
        x.new_empty(channels, length, thickness),
        x.new_empty(channels, thickness, thickness),
    )


def _fake_backward(
    grad_h: Tensor,
    grad_v: Tensor,
    grad_s: Tensor,
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    square: Tensor,
    anchor: int,
    exact: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_maps(x=x, grad_h=grad_h, grad_v=grad_v, grad_s=grad_s)
    check_kernels(x, horizontal, vertical, anchor, square=square)
    contiguous = [t.new_empty(t.shape) for t in (horizontal, vertical, square)]
    return torch.empty_like(grad_h), contiguous[0], contiguous[1], contiguous[2]


def _fake_fused(
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    bias: Tensor,
    anchor: int,
    exact: bool = False,
    channels: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    check_maps(x=x)
    check_kernels(x, horizontal, vertical, anchor, bias=bias, channels=channels, order=order)
    return torch.empty_like(x) if order is None else select_channels(x, order)


def _operator(name: str, kernel: Callable, fake: Callable, save: Callable, backward: Callable) -> OpOverload:
    return register(name, {device.upper(): kernel for device in native_devices()}, fake, save, backward)


_forward = _operator("stripe_conv2d", native.forward, _fake_forward, _save_forward, _backward_forward)
_input_grad = _operator(
    "stripe_conv2d_input_grad", native.input_grad, _fake_input_grad, _save_input_grad, _backward_input_grad
)
_weight_grad = _operator(
    "stripe_conv2d_weight_grad", native.weight_grad, _fake_weight_grad, _save_weight_grad, _backward_weight_grad
)
_backward = _operator("stripe_conv2d_backward", native.backward, _fake_backward, _save_backward, _backward_backward)
_fused = _operator("stripe_conv2d_fused", native.fused, _fake_fused, _save_fused, _backward_fused)


# --- decompositions, for exporters -----------------------------------------------------------------------------------


@decomposition(_forward)
def _decompose_forward(
    x: Tensor, horizontal: Tensor, vertical: Tensor, square: Tensor, anchor: int, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    return reference.stripe_conv2d(x, horizontal, vertical, square, anchor)


@decomposition(_fused)
def _decompose_fused(
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    bias: Tensor,
    anchor: int,
    exact: bool = False,
    channels: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    return reference.stripe_conv2d_fused(x, horizontal, vertical, bias, anchor, channels, order)


# --- operations, for torch.utils.flop_counter ------------------------------------------------------------------------
# A multiply-add of the plain sum counts as two, as it does for PyTorch's convolutions.


@register_flop_formula(torch.ops.sw_ops.stripe_conv2d)
def _count_forward(x: Any, horizontal: Any, *rest: Any, **kwargs: Any) -> int:
    return 2 * prod(x) * (2 * horizontal[1] * horizontal[2] + horizontal[1] ** 2)


@register_flop_formula(torch.ops.sw_ops.stripe_conv2d_input_grad)
def _count_input_grad(grad_h: Any, grad_v: Any, grad_s: Any, horizontal: Any, *rest: Any, **kwargs: Any) -> int:
    return _count_forward(grad_h, horizontal)


@register_flop_formula(torch.ops.sw_ops.stripe_conv2d_weight_grad)
def _count_weight_grad(x: Any, *rest: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return _count_forward(x, out_shape[0])


@register_flop_formula(torch.ops.sw_ops.stripe_conv2d_backward)
def _count_backward(grad_h: Any, grad_v: Any, grad_s: Any, x: Any, horizontal: Any, *rest: Any, **kwargs: Any) -> int:
    return 2 * _count_forward(x, horizontal)


@register_flop_formula(torch.ops.sw_ops.stripe_conv2d_fused)
def _count_fused(x: Any, horizontal: Any, *rest: Any, **kwargs: Any) -> int:
    return 2 * x[0] * prod(x[2:]) * 2 * prod(horizontal)
