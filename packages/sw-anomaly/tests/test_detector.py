"""A detector says the same after saving and loading, whatever the image's size, and knows foreign files."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sw_anomaly.detector import FORMAT, IN_CHANNELS, DetectorInfo, UNetDetector, inspect, network_input
from sw_anomaly.errors import InputError
from sw_anomaly.unet import create_model

INFO = DetectorInfo("disc", "swnano", "digest", 0.4, 0.6)
REFERENCE = np.full((64, 64, 3), 128, dtype=np.uint8)


@pytest.fixture(scope="module")
def detector():
    return UNetDetector(create_model("swnano", IN_CHANNELS), REFERENCE, INFO)


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (200, 130)])
def test_maps_have_the_size_of_the_image_and_scores_are_probabilities(detector, size):
    inspection = detector.inspect(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    assert inspection.map.shape == size
    assert inspection.map.dtype == np.float32
    assert 0 <= inspection.map.min() <= inspection.map.max() <= 1
    assert 0 <= inspection.score <= 1


def test_the_map_is_where_the_network_says_it_is():
    class Bright(torch.nn.Module):
        """Calls what is bright defective, at half resolution."""

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(20.0))

        def forward(self, x):
            assert x.shape == (1, IN_CHANNELS, 64, 64)
            return self.scale * (torch.nn.functional.avg_pool2d(x[:, :3].mean(dim=1, keepdim=True), 2) - 0.5)

    image = np.zeros((128, 256, 3), dtype=np.uint8)
    image[30:60, 100:140] = 255
    inspection = inspect(Bright(), REFERENCE, image)
    found = np.argwhere(inspection.map > 0.5)
    assert found.min(axis=0) == pytest.approx([30, 100], abs=5)
    assert found.max(axis=0) == pytest.approx([60, 140], abs=5)
    assert inspection.score > 0.9
    assert inspect(Bright(), REFERENCE, np.zeros_like(image)).score < 0.01


def test_saving_and_loading_changes_nothing(detector, tmp_path):
    detector.save(tmp_path / "checkpoint.safetensors")
    loaded = UNetDetector.load(tmp_path / "checkpoint.safetensors")
    assert loaded.info == detector.info
    assert loaded.image_size == 64
    np.testing.assert_array_equal(loaded.reference, detector.reference)
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(loaded.inspect(image).map, detector.inspect(image).map, atol=1e-5)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors is not a file"):
        UNetDetector.load(tmp_path / "gone.safetensors")


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04 something else entirely")
    with pytest.raises(InputError, match=r"model\.pth is not a safetensors file"):
        UNetDetector.load(tmp_path / "model.pth")


def test_a_safetensors_file_of_another_program_is_named(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors holds something else.*is wanted"):
        UNetDetector.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("vanilla", "does not hold the weights of the model 'vanilla'"),
        ("resnet", "of the model 'resnet'; one of swnano"),
    ],
)
def test_a_checkpoint_of_another_model_is_named(detector, tmp_path, model, message):
    path = tmp_path / "checkpoint.safetensors"
    detector.save(path)
    info = json.dumps({**asdict(INFO), "model": model})
    save_file(load_file(path), path, {"format": FORMAT, "info": info})
    with pytest.raises(InputError, match=message):
        UNetDetector.load(path)


def test_the_network_sees_the_image_and_its_difference_from_the_reference():
    images, references = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    seen = network_input(images, references)
    assert torch.equal(seen[:, :3], images)
    assert torch.equal(seen[:, 3:], images - references)
