"""What the operators have in common: registration with PyTorch, autocast, and which form of them computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._decomp import register_decomposition
from torch._ops import OpOverload

from sw_ops.backend import serving_backend, under_transform

_library = torch.library.Library("sw_ops", "DEF")
_decompositions: dict[OpOverload, Callable] = {}


def register(
    name: str, kernels: Mapping[str, Callable], fake: Callable, save: Callable, backward: Callable
) -> OpOverload:
    """Register what ``torch.library.custom_op`` would, without what it does in every call and this does not need.

    Args:
        name: of the operator in ``torch.ops.sw_ops``.
        kernels: functions that compute it, by PyTorch's dispatch key.
        fake: gives outputs of the right shapes and layouts; its annotations are the operator's schema.
        save: ``save(ctx, inputs, output)``, for the gradient.
        backward: ``backward(ctx, *grads)``.

    Returns:
        The operator.
    """
    operator = define(name, kernels, fake)
    _library.impl(name, _differentiable(name, operator, save, backward), "Autograd")
    return operator


def define(name: str, kernels: Mapping[str, Callable], fake: Callable, like: Callable | None = None) -> OpOverload:
    """Register an operator without a gradient; its schema is that of ``like``, where ``fake`` has no annotations."""
    _library.define(name + torch.library.infer_schema(like or fake, mutates_args=()))
    for key, kernel in kernels.items():
        _library.impl(name, kernel, key)
    torch.library.register_fake(f"sw_ops::{name}", fake, lib=_library)
    return getattr(torch.ops.sw_ops, name).default


def _differentiable(name: str, operator: OpOverload, save: Callable, backward: Callable) -> Callable:
    """Return an operator with a gradient: of small maps what ``torch.library.register_autograd`` does is a third."""
    arguments = operator._schema.arguments

    def below(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs)

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = below(*inputs)
        save(ctx, inputs, output)
        return output

    parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(name, (torch.autograd.Function,), parts)

    def call(*inputs: Any) -> Any:
        if len(inputs) < len(arguments):  # the dispatcher leaves out what is the default
            inputs = (*inputs, *(argument.default_value for argument in arguments[len(inputs) :]))
        if torch.is_grad_enabled() and any(isinstance(one, Tensor) and one.requires_grad for one in inputs):
            return function.apply(*inputs)
        return below(*inputs)

    return call


def decomposition(operator: OpOverload) -> Callable[[Callable], Callable]:
    """Enter the decorated function as what an operator is in PyTorch's own, here and in PyTorch's table."""

    def enter(function: Callable) -> Callable:
        _decompositions[operator] = function
        return register_decomposition(operator)(function)

    return enter


def decompositions() -> dict[OpOverload, Callable]:
    """Return what the operators are in PyTorch's own, for programs that other software than PyTorch runs.

    ``torch.onnx.export`` finds the table by itself.

    Example:
        >>> program = torch.export.export(model, inputs)
        >>> program = program.run_decompositions(sw_ops.decompositions())  # none of this package's operators is left
    """
    return dict(_decompositions)


def autocast(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Cast to the autocast dtype where autocast is on, as PyTorch's own convolutions do; float64 is left alone."""
    device = x.device.type
    if device != "meta" and torch.is_autocast_enabled(device) and x.is_floating_point():
        dtype = torch.get_autocast_dtype(device)
        return tuple(t if t.dtype == torch.float64 else t.to(dtype) for t in (x, *others))
    return (x, *others)


def served_by_pytorch(x: Tensor) -> bool:
    """Tell whether the PyTorch form computes: where no kernel is, under transforms, and in a trace.

    What is traced is meant for other software, which does not know this package's operators.
    """
    if serving_backend(x.device, x.dtype) == "torch":
        return True
    if torch.compiler.is_compiling():
        return False
    return under_transform() or torch.jit.is_tracing()
