"""The method ``unet``: where its heat is, what its network sees, and what it makes of tensors that are not its own."""

import numpy as np
import pytest
import torch

from sw_anomaly.methods.unet.method import IN_CHANNELS, UNetMethod, network_input
from sw_anomaly.methods.unet.networks import create_model
from sw_models.errors import InputError


class Bright(torch.nn.Module):
    """Calls what is bright defective, at half resolution."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        assert x.shape[:2] == (1, IN_CHANNELS)
        return self.scale * (torch.nn.functional.avg_pool2d(x[:, :3].mean(dim=1, keepdim=True), 2) - 0.5)


def test_the_heat_is_where_the_network_says_it_is():
    view = np.zeros((96, 64, 3), dtype=np.uint8)
    view[30:60, 10:40] = 255
    heat = UNetMethod(Bright(), np.zeros_like(view), 96).inspect(view).map
    assert heat.shape == (96, 64)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    found = np.argwhere(heat > 0.7)  # a logit of 0
    assert found.min(axis=0) == pytest.approx([30, 10], abs=2)
    assert found.max(axis=0) == pytest.approx([59, 39], abs=2)


def test_what_is_surely_defective_can_be_told_from_what_is_more_so():
    model = Bright()
    model.scale.data.fill_(200)
    method = UNetMethod(model, np.zeros((64, 64, 3), dtype=np.uint8), 64)
    scores = [method.inspect(np.full((64, 64, 3), level, dtype=np.uint8)).score for level in (180, 190, 200)]
    assert np.diff(scores).min() > 1
    saturating = UNetMethod(model, np.zeros((64, 64, 3), dtype=np.uint8), 64, saturating=True)
    assert saturating.inspect(np.full((64, 64, 3), 180, dtype=np.uint8)).score == pytest.approx(1, abs=1e-6)


def test_saving_and_loading_changes_nothing():
    reference = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    segmenter = UNetMethod(create_model("swnano", IN_CHANNELS), reference, 64)
    loaded = UNetMethod.from_state(segmenter.state(), "swnano", 64)
    np.testing.assert_array_equal(loaded.reference.numpy(), reference)
    view = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    np.testing.assert_allclose(loaded.inspect(view).map, segmenter.inspect(view).map, atol=1e-5)


def test_tensors_of_another_model_are_named():
    tensors = UNetMethod(create_model("swnano", IN_CHANNELS), np.zeros((64, 64, 3), dtype=np.uint8), 64).state()
    with pytest.raises(InputError, match="does not hold the weights of the model 'vanilla'"):
        UNetMethod.from_state(tensors, "vanilla", 64)


def test_the_network_sees_the_image_and_its_difference_from_the_reference():
    images, references = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    seen = network_input(images, references)
    assert torch.equal(seen[:, :3], images)
    assert torch.equal(seen[:, 3:], images - references)
