import pytest
import timm
import torch

from sw_models.analysis.sparsity import kernel_sparsity


def test_sparsity_counts_the_kernels_that_are_zero():
    model = timm.create_model("shiftwise_pico", depths=(1, 1, 1, 1))
    layer = model.stages[0].blocks[0].conv
    slots = layer.table.slots
    with torch.no_grad():
        layer.weights[0][:2] = 0
        layer.weights[1][1:4] = 0
    found = kernel_sparsity(model)
    total = len(layer.weights[0])
    assert found[0].name == "stages.0.blocks.0.conv"
    assert found[0].per_path == pytest.approx([2 / total, 3 / total])
    assert found[0].merged == pytest.approx(1 / total)
    assert found[0].per_slot == pytest.approx([0, slots / total, *[0] * (slots - 2)])
    assert found[1].merged == 0
