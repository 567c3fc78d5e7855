import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sw_models  # noqa: F401 - registers the models

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def golden():
    """Read a golden file: (published state dict, everything else by name)."""

    def read(name):
        tensors = load_file(DATA / f"{name}.safetensors")
        state = {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}
        return state, {k.removeprefix("64x64/"): v for k, v in tensors.items() if not k.startswith("state/")}

    return read


@pytest.fixture(scope="session")
def published_keys():
    """Key lists of the published networks at full size, with shapes and dtypes, and their parameter counts."""
    return json.loads((DATA / "published_keys.json").read_text())


@pytest.fixture(params=["torch", "native"])
def backend(request):
    """Run a test through both backends of sw_ops."""
    from sw_ops import use_backend
    from sw_ops.backend import native_devices

    if request.param == "native" and "cpu" not in native_devices():
        pytest.skip("sw_ops was installed without its compiled kernels")
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def seeded():
    """Seed the drawing of weights and inputs."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def relative_error():
    """Measure the largest difference as a share of the tensor's maximum."""
    return lambda actual, expected: ((actual - expected).abs().max() / expected.abs().max()).item()
