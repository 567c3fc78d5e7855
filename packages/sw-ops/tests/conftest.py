from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sw_ops

DATA = Path(__file__).parent / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the operators are tested: cpu or cuda")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_default_device(config.getoption("--device"))
    torch.set_num_threads(max(2, torch.get_num_threads()))  # where a suite is given one, kernels still share their work


@pytest.fixture(params=["native", "torch"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once through the compiled kernels and once through PyTorch."""
    only_where_there_are_kernels = request.param == "native" and torch.get_default_device().type != "cpu"
    with sw_ops.use_backend("auto" if only_where_there_are_kernels else request.param):
        yield request.param


@pytest.fixture(params=["avx512", "avx2", "portable"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of the kernels that this machine can run."""
    if sw_ops.backend._C is None or not sw_ops.backend._C.cpu.instruction_set_available(request.param):
        pytest.skip(f"{request.param} cannot run here")
    before = sw_ops.backend._C.cpu.instruction_set()
    sw_ops.backend._C.cpu.use_instruction_set(request.param)
    yield request.param
    sw_ops.backend._C.cpu.use_instruction_set(before)


def seeded(seed: int) -> torch.Generator:
    """Return a generator on the device under test."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


@pytest.fixture
def generator() -> torch.Generator:
    return seeded(0)


class Golden:
    """Numbers that the published code computed: tensors by key, and the JSON that describes them."""

    def __init__(self, name: str, device: torch.device | str | None = None) -> None:
        self.tensors = load_file(DATA / f"{name}.safetensors", device=str(device or torch.get_default_device()))
        self.about = json.loads((DATA / f"{name}.json").read_text())

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}


def assert_close_to_maximum(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> None:
    """Compare with a tolerance relative to the largest entry of ``want``."""
    assert got.shape == want.shape
    got, want = got.detach().double(), want.detach().double()
    error = float((got - want).abs().max() / want.abs().max().clamp_min(1e-30))
    assert error <= tolerance, f"error {error:.2e} of the maximum, allowed {tolerance:.0e}"
