"""``global_response_norm``: the norm of ConvNeXt V2, in as few passes over memory as it can be trained with.

Compiled kernels read a map twice forward and twice backward, where PyTorch's operators pass over it a dozen times and
keep a second map for the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sw_ops.arguments import check_response_norm
from sw_ops.backend import _C
from sw_ops.operators import decomposition, define, register, served_by_pytorch


def global_response_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """Return ``x * (1 + weight * n) + bias``, where ``n`` is each channel's norm over the mean of those norms.

    Global response normalisation (arXiv 2301.00808): the norm of a channel is the root of the sum of its squares over
    all pixels, in float32 for 16-bit maps; ``eps`` is added to the mean.

    Args:
        x: ``[B, C, H, W]``, floating point; contiguous and channels-last memory are the fast ones.
        weight: ``[C]``.
        bias: ``[C]``.
        eps: added to the mean of the norms.

    Returns:
        ``[B, C, H, W]`` in the dtype and memory format of ``x``. Compiled kernels serve float32 on CPUs, in training,
        too; all else is computed by PyTorch's operators.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
        TypeError: a device is not that of ``x``, or a dtype is not floating point.

    Example:
        >>> global_response_norm(torch.randn(2, 8, 5, 5), torch.ones(8), torch.zeros(8)).shape
        torch.Size([2, 8, 5, 5])
    """
    if torch.jit.is_scripting():
        return _by_pytorch(x, weight, bias, eps)
    else:
        if isinstance(x, Tensor):  # and not what torch.fx traces with
            check_response_norm(x, weight, bias)
            if _is_compiled(x, weight, bias):
                y: Tensor = _forward(x, weight, bias, eps)[0]
                return y
        return _by_pytorch(x, weight, bias, eps)


def _is_compiled(x: Tensor, *others: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and all(t.dtype == torch.float32 for t in (x, *others))
        and not torch.compiler.is_compiling()  # which joins the norm to its neighbours
        and not served_by_pytorch(x)
    )


def _by_pytorch(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    response = _responses(x, eps)[:, :, None, None]
    scale = 1 + weight[:, None, None] * response
    return torch.addcmul(bias[:, None, None].to(x.dtype), x, scale.to(x.dtype))


def _responses(x: Tensor, eps: float) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    norms = torch.linalg.vector_norm(x, dim=(2, 3), dtype=dtype)
    return norms / (norms.mean(dim=1, keepdim=True) + eps)


# --- the operator, and its gradient ----------------------------------------------------------------------------------


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    check_response_norm(x, weight, bias)
    return torch.empty_like(x), x.new_empty(x.shape[:2])


def _forward_by_pytorch(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return _by_pytorch(x, weight, bias, eps), torch.linalg.vector_norm(x, dim=(2, 3))


def _forward_compiled(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    check_response_norm(x, weight, bias)
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or bias.dtype != torch.float32:
        raise TypeError(f"x, weight, bias: got {x.dtype}, {weight.dtype}, {bias.dtype}, want torch.float32")
    x, problem = _laid_out(x, eps)
    y, norms = torch.empty_like(x), x.new_empty(x.shape[:2])
    if x.numel():
        tensors = (x, weight.contiguous(), bias.contiguous(), norms, y)
        _C.cpu.response_norm(problem, *(t.data_ptr() for t in tensors), torch.get_num_threads())
    return y, norms


def _laid_out(x: Tensor, eps: float) -> tuple[Tensor, tuple[tuple[int, int, int], bool, float]]:
    """Return the map in memory that the kernels read, and the problem that they are told."""
    batch, channels, height, width = x.shape
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    problem = ((batch, channels, height * width), channels_last, eps)
    return (x if channels_last else x.contiguous()), problem


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    x, weight, bias, norms = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient is differentiated in its turn
        y, wanted = _by_pytorch(x, weight, bias, ctx.eps), ctx.needs_input_grad
        inputs = [t for t, is_wanted in zip((x, weight, bias), wanted, strict=False) if is_wanted]
        grads = iter(torch.autograd.grad(y, inputs, grad, create_graph=True))
        return tuple(next(grads) if is_wanted else None for is_wanted in wanted)
    arguments = (x, norms, weight, grad, ctx.eps)
    grad_x, products, sums = torch.ops.sw_ops.global_response_norm_backward(*arguments)
    responses = norms / (norms.mean(dim=1, keepdim=True) + ctx.eps)
    return grad_x, (products * responses).sum(0), sums.sum(0), None


def _gradients_compiled(
    x: Tensor, norms: Tensor, weight: Tensor, grad: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient to ``x``, and for each image and channel the sums of ``x * grad`` and of ``grad``."""
    x, problem = _laid_out(x, eps)
    grad = grad.contiguous(memory_format=torch.channels_last if problem[1] else torch.contiguous_format)
    grad_x, products, sums = torch.empty_like(x), torch.zeros_like(norms), torch.zeros_like(norms)
    if x.numel():
        tensors = (x, norms, weight.contiguous(), grad, products, sums, grad_x)
        _C.cpu.response_norm_backward(problem, *(t.data_ptr() for t in tensors), torch.get_num_threads())
    return grad_x, products, sums


def _fake_gradients(
    x: Tensor, norms: Tensor, weight: Tensor, grad: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(norms), torch.empty_like(norms)


_forward = register(
    "global_response_norm",
    {"CPU": _forward_compiled} if hasattr(_C, "cpu") else {},
    _fake_forward,
    _save,
    _backward,
)
decomposition(_forward)(_forward_by_pytorch)

define(
    "global_response_norm_backward",
    {"CPU": _gradients_compiled} if hasattr(_C, "cpu") else {},
    _fake_gradients,
)
