import pytest
import timm
import torch
from timm.utils import reparameterize_model
from torch import nn

from sw_models.analysis.flops import count_macs


def test_tiny_has_the_operations_that_were_counted_by_hand():
    with torch.device("meta"):
        counts = count_macs(timm.create_model("shiftwise_tiny"))
    assert counts["large kernels"] == 623_313_144
    assert counts["convolutions"] == 374_814_720
    assert counts["linear"] == 640_000
    assert counts["total"] / 1e9 == pytest.approx(5.34, abs=0.005)


def test_linear_layers_on_maps_count_once_per_pixel():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(16, 5))
    counts = count_macs(model, (4, 4))
    assert counts["convolutions"] == 8 * 3 * 9 * 16
    assert counts["pointwise"] == 8 * 16 * 5


def test_deployed_models_run_what_was_foretold():
    model = timm.create_model("shiftwise_v1_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)).eval()
    deployed = count_macs(reparameterize_model(model), 64)
    assert deployed["large kernels"] == count_macs(model, 64)["large kernels, fused"]
