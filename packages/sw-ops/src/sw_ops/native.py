"""Hands tensors to the compiled kernels: addresses, sizes and strides, on the caller's device and stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sw_ops.arguments import check_depthwise, check_kernel_size, check_kernels, check_maps, check_stripe
from sw_ops.backend import _C
from sw_ops.maps import put_channels, select_channels

_SCALARS = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


def forward(
    x: Tensor, horizontal: Tensor, vertical: Tensor, square: Tensor, anchor: int, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maps ``h, v, s``; see :func:`sw_ops.stripe_conv2d`."""
    check_maps(x=x)
    check_kernels(x, horizontal, vertical, anchor, square=square)
    h, v, s = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
    kernels = [t.contiguous() for t in (horizontal, vertical, square)]
    _run("stripe_forward", x, kernels[0], anchor, exact, _map(x), _addresses(kernels), _map(h), _map(v), _map(s))
    return h, v, s


def fused(
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    bias: Tensor,
    anchor: int,
    exact: bool = False,
    channels: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    """Return ``h + v + bias``; see :func:`sw_ops.stripe_conv2d_fused`."""
    check_maps(x=x)
    check_kernels(x, horizontal, vertical, anchor, bias=bias, channels=channels, order=order)
    chosen = (0, 0)
    if channels is None:
        y = torch.empty_like(x)
    else:
        y = x.clone() if order is None else select_channels(x, order)
        sources, channels = (channels if order is None else order[channels]).contiguous(), channels.contiguous()
        if x.is_cuda:
            processed = fused(select_channels(x, sources), horizontal, vertical, bias, anchor, exact)
            return put_channels(y, channels, processed)
        chosen = (sources.data_ptr(), channels.data_ptr())
    kernels, bias = [horizontal.contiguous(), vertical.contiguous()], bias.contiguous()
    of_maps = () if x.is_cuda else ((*chosen, x.shape[1]),)
    arguments = (_map(x), [*_addresses(kernels), 0], bias.data_ptr(), *of_maps, _map(y))
    _run("stripe_fused", x, kernels[0], anchor, exact, *arguments)
    return y


def input_grad(
    grad_h: Tensor,
    grad_v: Tensor,
    grad_s: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    square: Tensor,
    anchor: int,
    exact: bool = False,
) -> Tensor:
    """Return the gradient to ``x``: the transposed convolutions of the three upstream maps, summed."""
    check_maps(grad_h=grad_h, grad_v=grad_v, grad_s=grad_s)
    check_kernels(grad_h, horizontal, vertical, anchor, square=square)
    grad_x = torch.empty_like(grad_h)
    kernels = [t.contiguous() for t in (horizontal, vertical, square)]
    maps = (_map(grad_h), _map(grad_v), _map(grad_s))
    _run("stripe_input_grad", grad_h, kernels[0], anchor, exact, *maps, _addresses(kernels), _map(grad_x))
    return grad_x


def weight_grad(
    x: Tensor,
    grad_h: Tensor,
    grad_v: Tensor,
    grad_s: Tensor,
    length: int,
    thickness: int,
    anchor: int,
    exact: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients to the kernels: the correlation of ``x`` with each upstream map."""
    check_maps(x=x, grad_h=grad_h, grad_v=grad_v, grad_s=grad_s)
    check_stripe(length, thickness, anchor)
    channels = x.shape[1]
    grads = (
        x.new_empty(channels, thickness, length),
        x.new_empty(channels, length, thickness),
        x.new_empty(channels, thickness, thickness),
    )
    maps = (_map(x), _map(grad_h), _map(grad_v), _map(grad_s))
    _run("stripe_weight_grad", x, grads[0], anchor, exact, *maps, _addresses(grads))
    return grads


def backward(
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
    """Return the gradients to ``x`` and to the kernels, for which a GPU reads the upstream maps once."""
    upstream = (grad_h, grad_v, grad_s)
    if not x.is_cuda:
        grad_x = input_grad(*upstream, horizontal, vertical, square, anchor, exact)
        return (grad_x, *weight_grad(x, *upstream, horizontal.shape[2], horizontal.shape[1], anchor, exact))
    check_maps(x=x, grad_h=grad_h, grad_v=grad_v, grad_s=grad_s)
    check_kernels(x, horizontal, vertical, anchor, square=square)
    contiguous = [t.contiguous() for t in (horizontal, vertical, square)]
    grad_x, grads = torch.empty_like(grad_h), [torch.empty_like(t) for t in contiguous]
    maps = [_map(t) for t in (x, *upstream)]
    arguments = (*maps, _addresses(contiguous), _map(grad_x), _addresses(grads))
    _run("stripe_backward", x, contiguous[0], anchor, exact, *arguments)
    return grad_x, grads[0], grads[1], grads[2]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the map; see :func:`sw_ops.depthwise_conv2d`."""
    check_depthwise(x, weight, bias)
    y, weight = torch.empty_like(x), weight.contiguous()
    if not x.numel():
        return y
    if bias is not None:
        bias = bias.contiguous()
    address = 0 if bias is None else bias.data_ptr()
    _run_depthwise("depthwise", x, weight.shape[2:], _map(x), weight.data_ptr(), address, _map(y))
    return y


def depthwise_weight_grad(x: Tensor, grad: Tensor, rows: int, columns: int) -> Tensor:
    """Return the gradient to the kernels of ``rows x columns``: the correlation of ``x`` with the upstream map."""
    check_maps(x=x, grad=grad)
    check_kernel_size(rows, columns)
    weight = x.new_empty(x.shape[1], 1, rows, columns)
    if not x.numel():
        return weight.zero_()
    _run_depthwise("depthwise_weight_grad", x, (rows, columns), _map(x), _map(grad), weight.data_ptr())
    return weight


def _run_depthwise(function: str, x: Tensor, kernel_size: Sequence[int], *arguments: Any) -> None:
    rows, columns = kernel_size
    problem = (_SCALARS[x.dtype], x.shape, (columns, rows, columns // 2), True)
    getattr(_C.cpu, function)(problem, *arguments, torch.get_num_threads())


def _map(t: Tensor) -> tuple[int, ...]:
    return (t.data_ptr(), *t.stride())


def _addresses(tensors: Any) -> list[int]:
    return [t.data_ptr() for t in tensors]


def _run(function: str, x: Tensor, horizontal: Tensor, anchor: int, exact: bool, *arguments: Any) -> None:
    channels, thickness, length = horizontal.shape
    batch, _, height, width = x.shape
    problem = (_SCALARS[x.dtype], (batch, channels, height, width), (length, thickness, anchor), exact)
    if not x.is_cuda:
        getattr(_C.cpu, function)(problem, *arguments, torch.get_num_threads())
        return
    with torch.cuda.device(x.device):
        index = x.device.index
        if function in ("stripe_weight_grad", "stripe_backward"):
            # From torch's allocator, on the current stream: free again as soon as this stream is done with it.
            size = _C.cuda.weight_grad_workspace(problem, arguments[0], index)
            workspace = torch.empty(size, dtype=torch.uint8, device=x.device)
            arguments = (*arguments, workspace.data_ptr())
        getattr(_C.cuda, function)(problem, *arguments, index, torch.cuda.current_stream().cuda_stream)
