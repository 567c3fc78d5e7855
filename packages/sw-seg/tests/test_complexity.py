import pytest
import torch

from sw_seg.complexity import count_complexity
from sw_seg.task import TASK
from sw_sparse.openmmlab.config import load_config

from conftest import SMALL


def built(name, options=()):
    from sw_sparse.openmmlab.checkpoint import load_model

    return load_model(load_config(TASK, name, options))


def test_parts_add_up_to_the_model():
    model = built("upernet_nano_shapes", SMALL)
    rows = count_complexity(model, (64, 96))
    assert [row["part"] for row in rows] == ["backbone", "decode_head", "auxiliary_head"]
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in model.parameters())
    assert all(row["MACs, fused"] <= row["MACs"] for row in rows)


def test_the_heads_convolutions_are_counted_once_per_output():
    model = built("upernet_nano_shapes", SMALL)
    counted = count_complexity(model, (64, 96))[1]["MACs"]
    expected = 0

    def count(layer, inputs, output):
        nonlocal expected
        expected += layer.weight.numel() * output[0, 0].numel()

    for layer in model.decode_head.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 96))
    assert counted == expected


@pytest.mark.parametrize(("options", "published"), [((), 62.51), (("model.backbone.n_path=1",), 61.73)])
def test_the_published_model_has_the_published_parameters(options, published):
    rows = count_complexity(built("upernet_tiny", options), (512, 2048))
    assert sum(row["parameters"] for row in rows) / 1e6 == pytest.approx(published, abs=0.01)
