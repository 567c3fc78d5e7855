from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sw_ops

DATA = Path(__file__).parent / "data"


@pytest.fixture(params=["native", "torch"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once through the compiled kernels and once through PyTorch."""
    with sw_ops.use_backend(request.param):
        yield request.param


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Golden:
    """Numbers that the published code computed: tensors by key, and the JSON that describes them."""

    def __init__(self, name: str) -> None:
        self.tensors = load_file(DATA / f"{name}.safetensors")
        self.about = json.loads((DATA / f"{name}.json").read_text())

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}


def assert_close_to_maximum(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> None:
    """Compare with a tolerance relative to the largest entry of ``want``."""
    assert got.shape == want.shape
    got, want = got.detach().double(), want.detach().double()
    error = float((got - want).abs().max() / want.abs().max().clamp_min(1e-30))
    assert error <= tolerance, f"error {error:.2e} of the maximum, allowed {tolerance:.0e}"
