import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

DATA = Path(__file__).parent / "data"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden():
    """What the published engine did on a small published model."""
    return SimpleNamespace(
        json=json.loads((DATA / "E_sparse.json").read_text()), tensors=load_file(DATA / "E_sparse.safetensors")
    )


@pytest.fixture(scope="session")
def published_state():
    """The state dict of that model."""
    return load_file(DATA / "D_state.safetensors")
