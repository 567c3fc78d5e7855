import pytest
import timm
import torch
from timm.utils import reparameterize_model

from sw_models import ShiftwiseV1Net, load_published_checkpoint


@torch.no_grad()
def test_golden_network_is_reproduced(golden, backend, relative_error):
    state, expected = golden("D_model_v1")
    model = load_published_checkpoint(state)
    assert isinstance(model, ShiftwiseV1Net)
    last, maps = model.forward_intermediates(expected["input"])
    for i, stage_map in enumerate(maps):
        assert relative_error(stage_map, expected[f"stage{i}"]) < 1e-5
    assert relative_error(model.forward_head(last, pre_logits=True), expected["pooled_features"]) < 1e-5
    assert relative_error(model(expected["input"]), expected["logits"]) < 1e-5
    assert relative_error(reparameterize_model(model)(expected["input"]), expected["logits_merged"]) < 1e-5


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_sizes_have_the_published_parameter_counts(size, published_keys):
    with torch.device("meta"):
        model = timm.create_model(f"shiftwise_v1_{size}")
    count = sum(p.numel() for p in model.parameters())
    assert count == published_keys["counts"][f"ShiftWise_v1_{size}"]["n_params"]
