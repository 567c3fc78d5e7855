import pytest
import timm
import torch

from sw_models import NormedFeatures


def test_returns_the_chosen_stages_normed(seeded):
    backbone = timm.create_model("shiftwise_nano")
    model = NormedFeatures(backbone, out_indices=(1, 3)).eval()
    maps = model(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 48, 8, 12), (1, 192, 2, 3)]
    assert [info["reduction"] for info in model.feature_info] == [8, 32]
    for m in maps:
        torch.testing.assert_close(m.mean(1), torch.zeros_like(m.mean(1)), atol=1e-5, rtol=0)


def test_unknown_stages_are_named():
    with pytest.raises(ValueError, match=r"out_indices: got \(4,\), want some of 0 to 3"):
        NormedFeatures(timm.create_model("shiftwise_nano"), out_indices=(4,))
