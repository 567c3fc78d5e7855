"""Which code serves a tensor: compiled kernels where there are some for its device and dtype, else plain PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch.autograd import forward_ad

try:
    from sw_ops import _C
except ImportError as error:  # without the compiled module everything still works, through PyTorch
    _C = None  # type: ignore[assignment]
    native_missing: str | None = str(error)
else:
    native_missing = None

Backend = Literal["auto", "native", "torch"]

_NATIVE_DTYPES = {
    "cpu": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
_OLDEST_GPU = (8, 0)  # compute capability: the kernels copy to shared memory in the background, which older ones cannot
_native_devices = tuple(device for device in _NATIVE_DTYPES if hasattr(_C, device))
_choice: Backend = "auto"  # a plain global: torch.compile guards on it, in every version


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Choose the backend for the calls inside a ``with`` block, in all threads.

    Args:
        name: "auto" takes the compiled kernels where there are some that can run; "native" raises where there are none;
            "torch" is the pure PyTorch form, which is the reference and the one to export from.
    """
    if name not in ("auto", "native", "torch"):
        raise ValueError(f"name: got {name!r}, want 'auto', 'native' or 'torch'")
    global _choice
    before, _choice = _choice, name
    try:
        yield
    finally:
        _choice = before


def native_devices() -> tuple[str, ...]:
    """Return the device types that compiled kernels exist for in this installation."""
    return _native_devices


def serving_backend(device: torch.device, dtype: torch.dtype) -> Literal["native", "torch"]:
    """Return the backend that serves tensors of this device and dtype under the present choice.

    Raises:
        RuntimeError: "native" was asked for, and there is no kernel, or the GPU or its driver cannot run it.
    """
    if _choice == "torch":
        return "torch"
    kind = device.type
    if kind not in _native_devices or dtype not in _NATIVE_DTYPES[kind]:
        if _choice == "native" and dtype.is_floating_point:  # the checks refuse anything else, by its name
            raise RuntimeError(
                f"use_backend('native'): no compiled kernel for {dtype} on {kind}"
                f" (there are some for: {', '.join(native_devices()) or 'none'}); see 'sw-ops doctor'"
            )
        return "torch"
    if kind != "cuda":
        return "native"
    problem = _gpu_problem(device.index, _choice == "auto")
    if problem is None:
        return "native"
    if _choice == "native":
        raise RuntimeError(f"use_backend('native'): {problem}")
    return "torch"


def under_transform() -> bool:
    """Tell whether a transform of ``torch.func`` or forward-mode differentiation is going on.

    A compiled kernel knows nothing of a tangent, nor of a dimension that is mapped over.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def gpu_problem(index: int) -> str | None:
    """Return why the compiled kernels cannot run on a GPU and what to do about it; ``None`` where they can."""
    return _gpu_problem(index, False)


def _gpu_problem(index: int | None, warn: bool) -> str | None:
    index = torch.cuda.current_device() if index is None else index
    problem = _ask_driver(index)
    if problem and warn:
        _warn_once(problem)
    return problem


# What torch.compiler.assume_constant_result does, which imports the compiler: torch.compile calls the function as it
# traces, and does not look inside.
_gpu_problem._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _ask_driver(index: int) -> str | None:
    with torch.cuda.device(index):
        error = _C.cuda.usable(index)
    if not error:
        return None
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    wanted, number = "{}.{}".format(*_OLDEST_GPU), "{}{}".format(*capability)
    if capability < _OLDEST_GPU:
        cure = f"they need a GPU of compute capability {wanted} or later, and there is nothing to mend"
    else:
        cure = (
            f"update its driver, or build sw-ops for it: 'pip install --no-binary sw-ops sw-ops"
            f" -C cmake.define.CMAKE_CUDA_ARCHITECTURES={number}', with an nvcc no newer than the driver"
        )
    return (
        f"the CUDA kernels cannot run on cuda:{index}, {name} of compute capability {'{}.{}'.format(*capability)}"
        f" ({error}); {cure}. PyTorch's own operators compute the same there, more slowly; see 'sw-ops doctor'"
    )


@cache
def _warn_once(problem: str) -> None:
    warnings.warn(f"sw_ops: {problem}", RuntimeWarning, stacklevel=2)
