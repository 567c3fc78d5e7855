"""Our networks in the hands of accelerate's tools for models that memory does not hold."""

import pytest
import timm
import torch
from accelerate import cpu_offload, disk_offload, init_empty_weights

import sw_models  # noqa: F401 - registers the models

WHOLE = ["ShiftwiseConv2d"]  # whose parts' weights are used together, and are to be fetched together


@pytest.fixture
def model():
    """A network whose tables and statistics are not those that a new one has."""
    torch.manual_seed(0)
    model = timm.create_model("shiftwise_pico", num_classes=3).eval()
    for name, value in model.state_dict().items():
        if "running" in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
        elif "slots" in name:
            value.copy_(value.flip(2 if value.ndim == 3 else 1))
    return model


@pytest.mark.parametrize("include_buffers", [False, True])
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_network_made_without_memory_is_filled_and_offloaded(model, place, include_buffers, tmp_path):
    with init_empty_weights(include_buffers=include_buffers):
        made = timm.create_model("shiftwise_pico", num_classes=3).eval()
    made.load_state_dict(model.state_dict(), assign=True)
    images = torch.randn(2, 3, 64, 64)
    expected = model(images)
    device = torch.device("cpu")
    if place == "disk":
        disk_offload(made, tmp_path, device, offload_buffers=True, preload_module_classes=WHOLE)
    else:
        cpu_offload(made, device, offload_buffers=True, preload_module_classes=WHOLE)
    assert {value.device.type for value in made.parameters()} == {"meta"}
    assert torch.equal(made(images), expected)
