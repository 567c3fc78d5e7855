"""GPUs whose driver or architecture does not fit, with a stub of the compiled module in the place of CUDA."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import sw_ops
from sw_ops import backend, native
from sw_ops.backend import serving_backend
from sw_ops.cli import app

ERRORS = {
    35: "CUDA driver version is insufficient for CUDA runtime version",
    209: "no kernel image is available for execution on the device",
    222: "the provided PTX was compiled with an unsupported toolchain.",
}
GPU = torch.device("cuda", 0)


class Cuda:
    """What ``_C.cuda`` answers, and how often it was asked."""

    def __init__(self) -> None:
        self.error, self.asked = "", 0

    def usable(self, index: int) -> str:
        assert index == 0
        self.asked += 1
        return self.error


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """A machine with one GPU, whose kernels were built."""
    stub, native = Cuda(), backend._C
    attributes = {"compiler": "c", "cuda_compiler": "NVIDIA 13.0", "cuda_architectures": "80 90", "cuda_left_out": ""}
    monkeypatch.setattr(backend, "_C", SimpleNamespace(cpu=native.cpu, cuda=stub, **attributes))
    monkeypatch.setattr(backend, "_native_devices", ("cpu", "cuda"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    for cached in (backend._ask_driver, backend._warn_once):
        cached.cache_clear()
    yield stub
    for cached in (backend._ask_driver, backend._warn_once):
        cached.cache_clear()


def test_kernels_serve_a_gpu_that_can_run_them_and_the_driver_is_asked_once(cuda: Cuda) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert serving_backend(GPU, torch.bfloat16) == "native"
    assert cuda.asked == 1
    assert serving_backend(GPU, torch.float64) == "torch"


@pytest.mark.parametrize("error", ERRORS.values(), ids=map(str, ERRORS))
def test_auto_falls_back_with_one_warning_and_native_raises(cuda: Cuda, error: str) -> None:
    cuda.error = error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [serving_backend(GPU, torch.float32) for _ in range(3)] == ["torch"] * 3
    assert len(caught) == 1
    assert error in str(caught[0].message)
    assert "Tesla T4 of compute capability 7.5" in str(caught[0].message)
    with sw_ops.use_backend("native"), pytest.raises(RuntimeError, match="the CUDA kernels cannot run on cuda:0") as e:
        serving_backend(GPU, torch.float32)
    assert error in str(e.value)
    with sw_ops.use_backend("torch"):
        assert serving_backend(GPU, torch.float32) == "torch"
    assert cuda.asked == 1


def test_the_warning_says_what_to_do(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.error = ERRORS[209]
    with pytest.warns(RuntimeWarning, match="a GPU of compute capability 8.0 or later, and there is nothing to mend"):
        serving_backend(GPU, torch.float32)
    backend._ask_driver.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (12, 0))
    with pytest.warns(RuntimeWarning, match="update its driver, or build sw-ops .*CMAKE_CUDA_ARCHITECTURES=120"):
        serving_backend(GPU, torch.float32)


class Tensor:
    """What the calls ask of a tensor on a second GPU."""

    is_cuda, device, dtype = True, torch.device("cuda", 1), torch.bfloat16

    def __init__(self, *shape: int) -> None:
        self.shape = shape


def test_kernels_run_under_the_device_of_their_tensors(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with two GPUs: nothing touches the first one, and the caller's own stays the current one."""
    current, calls, allocated = [0], [], []

    @contextmanager
    def device(wanted: torch.device) -> Iterator[None]:
        current.append(wanted.index)
        yield
        current.pop()

    def kernel(name: str, answer: object = None) -> object:
        def call(problem: object, *arguments: object) -> object:
            calls.append((name, current[-1], arguments))
            return answer

        return call

    def empty(size: int, *, dtype: torch.dtype, device: torch.device) -> SimpleNamespace:
        allocated.append((size * dtype.itemsize, device, current[-1]))
        return SimpleNamespace(data_ptr=lambda: 4096)

    names = ("stripe_forward", "stripe_fused", "stripe_input_grad", "stripe_weight_grad", "stripe_backward")
    for name in names:
        monkeypatch.setattr(cuda, name, kernel(name), raising=False)
    monkeypatch.setattr(cuda, "weight_grad_workspace", kernel("weight_grad_workspace", 100), raising=False)
    monkeypatch.setattr(native, "_C", backend._C)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=70 + current[-1]))
    monkeypatch.setattr(torch, "empty", empty)
    for name in names:
        native._run(name, Tensor(2, 3, 8, 8), Tensor(3, 3, 9), 4, False, "maps")
    assert calls == [
        *((name, 1, ("maps", 1, 71)) for name in names[:3]),
        ("weight_grad_workspace", 1, ("maps", 1)),  # of x, whose layout counts
        ("stripe_weight_grad", 1, ("maps", 4096, 1, 71)),
        ("weight_grad_workspace", 1, ("maps", 1)),
        ("stripe_backward", 1, ("maps", 4096, 1, 71)),
    ]
    assert allocated == 2 * [(100, torch.device("cuda", 1), 1)]  # by PyTorch, whose memory it is, on the current stream
    assert current == [0]


@pytest.mark.parametrize(("error", "served"), [("", 1.0), (ERRORS[35], 2.0)])
def test_the_choice_compiles_without_a_break(
    cuda: Cuda, error: str, served: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.error = error
    torch.compiler.reset()  # of what it found for the other error
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # or the compiler would look for Triton on it

    @torch.compile(backend="eager", fullgraph=True)
    def chosen(x: torch.Tensor) -> torch.Tensor:
        return x + (1.0 if serving_backend(GPU, torch.float32) == "native" else 2.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert chosen(torch.zeros(1)).item() == served


@pytest.mark.parametrize("error", ERRORS.values(), ids=map(str, ERRORS))
def test_doctor_survives_a_gpu_that_fails_in_every_way(cuda: Cuda, error: str) -> None:
    cuda.error = error  # and tensors cannot be put on it at all, for there is none
    for arguments in (["doctor", "--json"], ["doctor"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Tesla T4" in result.output
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    gpu = found["gpus"][0]
    assert (gpu["device"], gpu["capability"]) == ("cuda:0", "7.5")
    assert error in gpu["problem"]
    assert found["native"]["cuda_architectures"] == "80 90"
    of_gpu = [entry for entry in found["serving"] if entry["device"] == "cuda:0"]
    assert {entry["backend"] for entry in of_gpu} == {"torch"}
    assert not any(entry["passed"] for entry in of_gpu)
    assert all(entry["passed"] for entry in found["serving"] if entry["device"] == "cpu")


@pytest.mark.parametrize("broken", ["is_available", "get_device_name", "get_device_capability"])
def test_doctor_survives_what_pytorch_raises(cuda: Cuda, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("CUDA error: unknown error\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr(torch.cuda, broken, fail)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert json.loads(result.output)["gpus"][0]["problem"] == "RuntimeError: CUDA error: unknown error"


def test_doctor_says_why_there_are_no_kernels_and_how_to_get_them(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_native_devices", ("cpu",))
    monkeypatch.setattr(backend._C, "cuda_left_out", "SW_CUDA is OFF")
    problem = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)["gpus"][0]["problem"]
    assert "no CUDA kernels: SW_CUDA is OFF" in problem
    assert "cmake.define.SW_CUDA=ON" in problem
