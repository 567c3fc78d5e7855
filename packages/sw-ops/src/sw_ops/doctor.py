"""What is installed, which code serves which tensor, and whether it computes the right thing here."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from sw_ops import backend, reference
from sw_ops.backend import serving_backend
from sw_ops.stripe import stripe_conv2d, stripe_conv2d_fused

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def report() -> dict[str, Any]:
    """Collect versions, how the compiled module was built, and for every device and dtype what serves it.

    Returns:
        A JSON-ready dict with the keys ``versions``, ``native``, ``serving`` and ``healthy``. Each entry of ``serving``
        holds ``device``, ``dtype``, ``backend`` and ``error``: the largest difference to the reference in float64, of
        outputs and gradients, relative to each tensor's maximum.
    """
    serving = [
        {
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "backend": serving_backend(device, dtype),
            "error": (error := self_test(device, dtype)),
            "passed": error < tolerance,
        }
        for device in _devices()
        for dtype, tolerance in _TOLERANCE.items()
        if not (device.type == "mps" and dtype == torch.float64)
    ]
    return {
        "versions": {
            "sw-ops": version("sw-ops"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "native": _native(),
        "serving": serving,
        "healthy": backend.native_missing is None and all(entry["passed"] for entry in serving),
    }


def self_test(device: torch.device, dtype: torch.dtype) -> float:
    """Compare outputs and gradients with the float64 reference; return the largest error relative to a maximum."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, 9, 7), (5, 3, 15), (5, 15, 3), (5, 3, 3)]
    exact = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    rounded = [t.to(device=device, dtype=dtype) for t in exact]
    upstream = torch.randn(exact[0].shape, generator=generator, dtype=torch.float64).to(dtype)
    anchor = 6

    def outputs_and_gradients(tensors: list[torch.Tensor], conv: Any, fused: Any) -> list[torch.Tensor]:
        tensors = [t.detach().requires_grad_() for t in tensors]
        x, horizontal, vertical, square = tensors
        outputs = [*conv(x, horizontal, vertical, square, anchor)]
        outputs.append(fused(x, horizontal, vertical, square[:, 1, 1], anchor))
        gradients = torch.autograd.grad(outputs, tensors, [upstream.to(o) for o in outputs])
        return [t.detach().cpu().double() for t in (*outputs, *gradients)]

    want = outputs_and_gradients(
        [t.cpu().double() for t in rounded], reference.stripe_conv2d, reference.stripe_conv2d_fused
    )
    got = outputs_and_gradients(rounded, stripe_conv2d, stripe_conv2d_fused)
    return max(float((g - w).abs().max() / w.abs().max()) for g, w in zip(got, want, strict=True))


def _native() -> dict[str, Any]:
    module = backend._C
    if module is None:
        return {"built": False, "reason": backend.native_missing}
    return {
        "built": True,
        "compiler": module.compiler,
        "instruction_set": module.cpu.instruction_set(),
        "cuda_compiler": module.cuda_compiler or None,
        "cuda_architectures": module.cuda_architectures or None,
        "threads": torch.get_num_threads(),
    }


def _devices() -> list[torch.device]:
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    return devices
