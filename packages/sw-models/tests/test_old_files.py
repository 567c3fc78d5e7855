"""Files that version 0.1.0 wrote: tiny models of each family, a deployed one, and an exported one."""

import lzma
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load
from timm.utils import reparameterize_model

import sw_models  # noqa: F401 - registers the models
from sw_models.checkpoints.fit import load_fitting
from sw_models.checkpoints.load import read_state_dict

OLD = Path(__file__).parent / "data/models-0.1.0"
TINY = {"depths": (1, 1, 1, 1), "dims": (4, 8, 8, 8), "num_classes": 3}
KERNELS = {"kernel_sizes": (13, 13, 7, 7)}
FAMILIES = {
    "shiftwise_pico": KERNELS,
    "shiftwise_v1_tiny": KERNELS,
    "shiftwise_tiny_coordatt": KERNELS,
    "slak_tiny": {},
    "unireplknet_tiny": {},
}


def unpacked(name, folder):
    path = folder / name
    path.write_bytes(lzma.decompress((OLD / f"{name}.xz").read_bytes()))
    return path


@pytest.fixture(scope="module")
def seen():
    """An image, and what each model of 0.1.0 said of it."""
    return load(lzma.decompress((OLD / "expected.safetensors.xz").read_bytes()))


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_0_1_0_load_and_say_the_same(name, seen, tmp_path):
    model = timm.create_model(name, **TINY, **FAMILIES[name])
    load_fitting(model, read_state_dict(unpacked(f"{name}.safetensors", tmp_path)), "checkpoint:")
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(seen["image"]), seen[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("checked", [False, True])
def test_a_deployed_model_of_0_1_0_loads_and_says_the_same(checked, seen, tmp_path):
    model = reparameterize_model(timm.create_model("shiftwise_pico", **TINY, **KERNELS))
    state = read_state_dict(unpacked("shiftwise_pico_deployed.pth", tmp_path))
    before = set(state)
    if checked:
        load_fitting(model, state, "checkpoint:")
    else:
        model.load_state_dict(state)
    assert set(state) == before
    with torch.no_grad():
        found = model.eval()(seen["image"])
    torch.testing.assert_close(found, seen["shiftwise_pico"], rtol=1e-4, atol=1e-4)


def test_an_exported_file_of_0_1_0_runs(seen, tmp_path):
    found = torch.jit.load(unpacked("shiftwise_pico.torchscript.pt", tmp_path))(seen["image"].expand(2, -1, -1, -1))
    torch.testing.assert_close(found[:1], seen["shiftwise_pico"], rtol=1e-4, atol=1e-4)
