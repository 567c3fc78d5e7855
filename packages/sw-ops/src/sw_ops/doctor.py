"""What is installed, which code serves which tensor, and whether it computes the right thing here."""

from __future__ import annotations

import platform
import subprocess
import warnings
from importlib.metadata import version
from typing import Any

import torch

from sw_ops import backend, mlp, nearest, reference, response_norm
from sw_ops.backend import serving_backend
from sw_ops.depthwise import depthwise_conv2d
from sw_ops.mlp import pointwise_mlp
from sw_ops.nearest import nearest_distances
from sw_ops.response_norm import global_response_norm
from sw_ops.stripe import stripe_conv2d, stripe_conv2d_fused

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def report() -> dict[str, Any]:
    """Collect versions, how the compiled module was built, the GPUs, and for every device and dtype what serves it.

    Nothing that is broken here raises: what a driver, a GPU or a kernel answers instead of working is in the report.

    Returns:
        A JSON-ready dict with the keys ``versions``, ``native``, ``gpus``, ``serving`` and ``healthy``. Each entry of
        ``gpus`` holds ``device``, ``name``, ``driver``, ``capability`` and ``problem``, why the compiled kernels do not
        serve it (``None`` where they do). Each entry of ``serving`` holds ``device``, ``dtype``, ``backend``, ``why``,
        ``passed`` and ``error``: the largest difference to the reference in float64, of outputs and gradients,
        relative to each tensor's maximum, or ``None`` where nothing was computed.
    """
    gpus = _gpus()
    serving = [
        _serving(device, dtype, tolerance)
        for device in [torch.device("cpu"), *(torch.device(gpu["device"]) for gpu in gpus), *_other_devices()]
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
        "gpus": gpus,
        "serving": serving,
        "healthy": backend.native_missing is None and all(entry["passed"] for entry in serving),
    }


def _serving(device: torch.device, dtype: torch.dtype, tolerance: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"device": str(device), "dtype": str(dtype).removeprefix("torch."), "backend": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that PyTorch serves a GPU is in the report
            entry["backend"] = serving_backend(device, dtype)
            error = self_test(device, dtype)
    except Exception as problem:
        return entry | {"why": _in_one_line(problem), "error": None, "passed": False}
    return entry | {"why": _why(device, dtype, entry["backend"]), "error": error, "passed": error < tolerance}


def _why(device: torch.device, dtype: torch.dtype, served_by: str) -> str:
    if served_by == "native":
        return "compiled kernels"
    if device.type not in backend.native_devices():
        return f"no kernels for {device.type} were built"
    if device.type == "cuda" and dtype == torch.float64:
        return "there are no CUDA kernels for float64"
    return "the kernels cannot run on this GPU" if device.type == "cuda" else "no kernels for this dtype"


def _gpus() -> list[dict[str, Any]]:
    try:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except Exception as problem:
        return [
            {"device": "cuda:0", "name": None, "driver": None, "capability": None, "problem": _in_one_line(problem)}
        ]
    driver = _driver_version() if count else None
    return [_gpu(index, driver) for index in range(count)]


def _gpu(index: int, driver: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"device": f"cuda:{index}", "name": None, "driver": driver, "capability": None}
    try:
        entry["name"] = torch.cuda.get_device_name(index)
        entry["capability"] = "{}.{}".format(*torch.cuda.get_device_capability(index))
        if "cuda" in backend.native_devices():
            problem = backend.gpu_problem(index)
        else:
            problem = f"this build of sw-ops has no CUDA kernels: {_left_out()}. {_HOW_TO_GET_THEM}"
    except Exception as broken:
        problem = _in_one_line(broken)
    return entry | {"problem": problem}


_HOW_TO_GET_THEM = (
    "For them: 'pip install --no-binary sw-ops sw-ops -C cmake.define.SW_CUDA=ON', with nvcc 11.8 or later in the PATH"
)


def _left_out() -> str:
    return backend._C.cuda_left_out if backend._C else str(backend.native_missing)


def _driver_version() -> str | None:
    """Return the version of NVIDIA's driver; PyTorch knows only which CUDA it serves."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return found[0] if found else None


def _in_one_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0] if lines else 'without a message'}"


def self_test(device: torch.device, dtype: torch.dtype) -> float:
    """Compare outputs and gradients with the float64 reference; return the largest error relative to a maximum."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 5, 9, 7), (5, 3, 15), (5, 15, 3), (5, 3, 3), (5, 1, 7, 5)]
    exact = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    rounded = [t.to(device=device, dtype=dtype) for t in exact]
    upstream = torch.randn(exact[0].shape, generator=generator, dtype=torch.float64).to(dtype)
    anchor = 6

    def outputs_and_gradients(
        tensors: list[torch.Tensor], conv: Any, fused: Any, depthwise: Any, norm: Any
    ) -> list[torch.Tensor]:
        tensors = [t.detach().requires_grad_() for t in tensors]
        x, horizontal, vertical, square, dense = tensors
        outputs = [*conv(x, horizontal, vertical, square, anchor)]
        outputs.append(fused(x, horizontal, vertical, square[:, 1, 1], anchor))
        outputs.append(depthwise(x, dense, square[:, 1, 1]))
        outputs.append(norm(x, square[:, 0, 0], square[:, 1, 1], 1e-6))
        gradients = torch.autograd.grad(outputs, tensors, [upstream.to(o) for o in outputs])
        return [t.detach().cpu().double() for t in (*outputs, *gradients)]

    def plain_depthwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return reference.depthwise(x, weight[:, 0], 3, 2) + bias[:, None, None]

    of_reference = (reference.stripe_conv2d, reference.stripe_conv2d_fused, plain_depthwise, response_norm._by_pytorch)
    want = outputs_and_gradients([t.cpu().double() for t in rounded], *of_reference)
    of_package = (stripe_conv2d, stripe_conv2d_fused, depthwise_conv2d, global_response_norm)
    got = outputs_and_gradients(rounded, *of_package)
    # x, processed, ghost scale and shift, squeeze, excite, expand, response, project
    shapes = [(2, 6, 9, 7), (2, 4, 9, 7), (2,), (2,), (3, 6), (3,), (6, 3), (6,), (24, 6), (24,), (24,), (6, 24), (6,)]
    inputs: list[Any] = [torch.randn(shape, generator=generator).to(device=device, dtype=dtype) for shape in shapes]
    with torch.no_grad():
        in_float64: list[Any] = [*(t.cpu().double() for t in inputs), 1e-6]
        want.append(mlp._by_pytorch(*in_float64))
        got.append(pointwise_mlp(*inputs).cpu().double())
        if dtype == torch.float32:
            memory = torch.randn(3, 4, 8, 16, generator=generator).half()
            numbers = torch.tensor([[0, 1], [1, 2], [2, 2]])
            points = torch.randn(7, 3, 8, generator=generator)
            arguments = (points, memory, memory.float().square().sum(2), numbers, numbers)
            want.append(nearest._by_pytorch(points.double(), *arguments[1:]))
            got.append(nearest_distances(*(t.to(device) for t in arguments)).cpu().double())
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
        "cuda_left_out": module.cuda_left_out or None,
        "threads": torch.get_num_threads(),
    }


def _other_devices() -> list[torch.device]:
    return [torch.device("mps")] if torch.backends.mps.is_available() else []
