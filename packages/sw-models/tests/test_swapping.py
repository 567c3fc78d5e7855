from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from sw_models import swap
from sw_ops import FusedShiftwiseConv2d, ShiftwiseConv2d, reparameterize


def resnet(name: str = "resnet10t") -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5)


def layers(model: nn.Module, kind: type) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize("name", ["resnet10t", "resnet18", "resnet26d"])
def test_every_dense_3x3_convolution_but_the_first_is_replaced(name: str) -> None:
    plain = resnet(name)
    expected = [layer for layer in layers(plain, nn.Conv2d)[1:] if layer.kernel_size == (3, 3)]
    got = layers(swap(copy.deepcopy(plain), 13), ShiftwiseConv2d)
    assert [(new.channels, new.out_channels, new.stride) for new in got] == [
        (old.in_channels, old.out_channels, old.stride[0]) for old in expected
    ]


def test_shapes_stay_and_every_parameter_is_trained() -> None:
    plain = resnet()
    x = torch.randn(2, 3, 64, 64)
    shapes = [level.shape for level in plain.forward_intermediates(x, intermediates_only=True)]
    swapped = swap(plain, 13)
    assert [level.shape for level in swapped.forward_intermediates(x, intermediates_only=True)] == shapes
    swapped(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in swapped.parameters())


def test_the_deployed_network_computes_the_same() -> None:
    swapped = swap(resnet(), 13)
    x = torch.randn(2, 3, 64, 64)
    swapped(x)  # statistics that are not the initial ones
    swapped.eval()
    deployed = reparameterize(swapped)
    assert len(layers(deployed, FusedShiftwiseConv2d)) == len(layers(swapped, ShiftwiseConv2d))
    torch.testing.assert_close(deployed(x), swapped(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [13, 51])
def test_a_swapped_resnet_has_no_more_parameters(kernel_size: int) -> None:
    plain = resnet("resnet18")
    before = sum(p.numel() for p in plain.parameters())
    assert sum(p.numel() for p in swap(plain, kernel_size).parameters()) <= 1.1 * before


def test_what_is_around_a_layer_stays() -> None:
    plain = resnet().eval().double()
    plain.layer2.train()
    kept = {name: tensor for name, tensor in plain.state_dict().items() if "conv1.0." in name or "bn" in name}
    swapped = swap(plain, 13)
    for name, tensor in kept.items():
        assert torch.equal(swapped.state_dict()[name], tensor)
    assert swapped.layer2[0].conv1.training
    assert not swapped.layer1[0].conv1.training
    assert swapped.layer1[0].conv1.weights[0].dtype == torch.float64


def test_grouped_and_dilated_convolutions_stay() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 5, padding=2),
        nn.Conv2d(8, 8, 3, padding=1),
    )
    kinds = [type(layer) for layer in swap(model, 13).children()]
    assert kinds == [nn.Conv2d] * 5 + [ShiftwiseConv2d]


def test_a_network_with_nothing_to_replace_is_refused() -> None:
    with pytest.raises(ValueError, match="model: got Sequential without a dense 3x3 convolution after the first"):
        swap(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), 13)
