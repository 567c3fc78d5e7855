"""``pointwise_mlp``: the pointwise half of a block for inference, from squeeze-excite to the sum with its input.

One compiled kernel does what takes PyTorch a dozen passes over memory: gates, GELU, norm, bias and residual are applied
where the two matrix products load and store what they work on.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from sw_ops import onnx_nodes
from sw_ops.arguments import check_mlp
from sw_ops.backend import _C, serving_backend, under_transform
from sw_ops.operators import decomposition, define


def pointwise_mlp(
    x: Tensor,
    processed: Tensor,
    ghost_scale: Tensor,
    ghost_shift: Tensor,
    squeeze: Tensor,
    squeeze_bias: Tensor,
    excite: Tensor,
    excite_bias: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    response: Tensor,
    project: Tensor,
    project_bias: Tensor,
    eps: float = 1e-6,
) -> Tensor:
    """Return ``x`` plus squeeze-excite, expansion, GELU, global response norm and projection of a map.

    With ``z`` the processed channels, followed by the others of ``x`` times ``ghost_scale`` plus ``ghost_shift``::

        z = z * sigmoid(excite @ relu(squeeze @ mean(z) + squeeze_bias) + excite_bias)
        h = gelu(expand @ z + expand_bias)
        n = norm of h over all pixels
        y = x + project @ (h * (1 + response * n / (mean(n) + eps))) + project_bias

    Args:
        x: ``[B, C, H, W]``, floating point.
        processed: ``[B, P, H, W]``, with ``P <= C``.
        ghost_scale: ``[C - P]``.
        ghost_shift: ``[C - P]``.
        squeeze: ``[S, C]``.
        squeeze_bias: ``[S]``.
        excite: ``[C, S]``.
        excite_bias: ``[C]``.
        expand: ``[N, C]``.
        expand_bias: ``[N]``.
        response: ``[N]``, the weight of the norm.
        project: ``[C, N]``.
        project_bias: ``[C]``.
        eps: added to the mean of the norms.

    Returns:
        ``[B, C, H, W]`` in channels-last memory. The kernel serves float32 on CPUs with AVX2 or AVX-512 where no
        gradient is wanted (:func:`mlp_is_compiled`); all else is computed by PyTorch's operators.

    Raises:
        ValueError: a shape does not fit; the message names the argument.
        TypeError: a dtype or device is not that of ``x``.

    Example:
        >>> x, ones = torch.randn(1, 8, 5, 5), torch.ones
        >>> y = pointwise_mlp(x, x[:, :6], ones(2), ones(2), ones(2, 8), ones(2), ones(8, 2), ones(8), ones(32, 8),
        ...                   ones(32), ones(32), ones(8, 32), ones(8))
        >>> y.shape
        torch.Size([1, 8, 5, 5])
    """
    arguments: list[Any] = [x, processed, ghost_scale, ghost_shift, squeeze, squeeze_bias, excite, excite_bias]
    arguments += [expand, expand_bias, response, project, project_bias, eps]
    if onnx_nodes.written(x):
        check_mlp(*arguments[:-1])
        return onnx_nodes.pointwise_mlp(*arguments[:-1], eps=eps)
    if mlp_is_compiled(x):
        return _operator(*arguments)
    check_mlp(*arguments[:-1])
    return _by_pytorch(*arguments)


def mlp_is_compiled(x: Tensor) -> bool:
    """Tell whether the compiled kernel serves :func:`pointwise_mlp` for this map, here and now, or in a file to be.

    Args:
        x: the map.

    Example:
        >>> with torch.inference_mode():
        ...     mlp_is_compiled(torch.ones(1, 8, 5, 5, dtype=torch.float64))
        False
    """
    return onnx_nodes.written(x) or (
        isinstance(x, Tensor)  # and not what torch.fx traces with
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and serving_backend(x.device, x.dtype) == "native"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not under_transform()
        and _C.cpu.instruction_set() != "portable"  # whose products are no match for a library's
    )


def _by_pytorch(
    x: Tensor,
    processed: Tensor,
    ghost_scale: Tensor,
    ghost_shift: Tensor,
    squeeze: Tensor,
    squeeze_bias: Tensor,
    excite: Tensor,
    excite_bias: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    response: Tensor,
    project: Tensor,
    project_bias: Tensor,
    eps: float,
) -> Tensor:
    ghost = x[:, processed.shape[1] :] * ghost_scale[:, None, None] + ghost_shift[:, None, None]
    z = torch.cat([processed, ghost], dim=1)
    squeezed = F.relu(F.linear(z.mean((2, 3)), squeeze, squeeze_bias))
    z = z * F.linear(squeezed, excite, excite_bias).sigmoid()[:, :, None, None]
    h = F.gelu(F.linear(z.permute(0, 2, 3, 1), expand, expand_bias))
    norm = torch.linalg.vector_norm(h, dim=(1, 2), keepdim=True, dtype=torch.promote_types(h.dtype, torch.float32))
    factor = 1 + response * (norm / (norm.mean(dim=3, keepdim=True) + eps))
    return x + F.linear(h * factor.to(h.dtype), project, project_bias).permute(0, 3, 1, 2)


def _compiled(x: Tensor, processed: Tensor, *others: Any) -> Tensor:
    *rest, eps = others
    check_mlp(x, processed, *rest)
    if x.dtype != torch.float32:
        raise TypeError(f"x: got {x.dtype}, want torch.float32")
    x, processed = (t.contiguous(memory_format=torch.channels_last) for t in (x, processed))
    tensors = [x, processed, *(t.contiguous() for t in rest)]
    batch, channels, height, width = x.shape
    squeeze, expand = rest[2], rest[6]
    sizes = (batch, height * width, channels, processed.shape[1], squeeze.shape[0], expand.shape[0])
    threads, y = torch.get_num_threads(), torch.empty_like(x, memory_format=torch.channels_last)
    if not y.numel():
        return y
    problem = (sizes, eps)
    workspace = x.new_empty(_C.cpu.mlp_workspace(problem, threads))
    _C.cpu.mlp(problem, [t.data_ptr() for t in (*tensors, workspace, y)], threads)
    return y


def _fake(x: Tensor, processed: Tensor, *others: Any) -> Tensor:
    check_mlp(x, processed, *others[:-1])  # the last is a number
    return torch.empty_like(x, memory_format=torch.channels_last)


_operator = define("pointwise_mlp", {"CPU": _compiled} if hasattr(_C, "cpu") else {}, _fake, _by_pytorch)
decomposition(_operator)(_by_pytorch)


@register_flop_formula(torch.ops.sw_ops.pointwise_mlp)
def _count(x: Any, *rest: Any, **kwargs: Any) -> int:
    """Count as PyTorch counts the same matrix products: a multiply-add is two operations."""
    batch, channels, height, width = x
    squeeze, expand = rest[3], rest[7]
    return 4 * batch * channels * (height * width * expand[0] + squeeze[0])
