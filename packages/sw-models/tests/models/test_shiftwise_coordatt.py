import timm
import torch
from timm.utils import reparameterize_model

from sw_models import ShiftwiseCoordAttNet, load_published_checkpoint


@torch.no_grad()
def test_golden_network_is_reproduced(golden, backend, relative_error):
    state, expected = golden("D_model_mvtec")
    model = load_published_checkpoint(state, kernel_sizes=(51, 49, 45, 13))
    assert isinstance(model, ShiftwiseCoordAttNet)
    for form in (model, reparameterize_model(model)):
        for i, stage_map in enumerate(form.forward_intermediates(expected["input"], intermediates_only=True)):
            assert relative_error(stage_map, expected[f"stage{i}"]) < 1e-5


def test_has_the_published_parameter_count(published_keys):
    with torch.device("meta"):
        model = timm.create_model("shiftwise_tiny_coordatt")
    count = sum(p.numel() for p in model.parameters())
    assert count == published_keys["counts"]["ShiftWise_v2_tiny_mvtec"]["n_params"]
