"""Which code serves a tensor: compiled kernels where there are some for its device and dtype, else plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

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
_native_devices = tuple(device for device in _NATIVE_DTYPES if hasattr(_C, device))
_choice: Backend = "auto"  # a plain global: torch.compile guards on it, in every version


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Choose the backend for the calls inside a ``with`` block, in all threads.

    Args:
        name: "auto" takes the compiled kernels where there are some; "native" raises where there are none; "torch" is
            the pure PyTorch form, which is the reference and the one to export from.
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
        RuntimeError: "native" was asked for and there is no kernel.
    """
    if _choice == "torch":
        return "torch"
    if device.type in _native_devices and dtype in _NATIVE_DTYPES[device.type]:
        return "native"
    if _choice == "native":
        raise RuntimeError(
            f"use_backend('native'): no compiled kernel for {dtype} on {device.type}"
            f" (there are some for: {', '.join(native_devices()) or 'none'}); see 'sw-ops doctor'"
        )
    return "torch"
