"""Folding: the same function without batch norms, where they alone read a convolution, and nowhere else."""

import pytest
import timm
import torch
from torch import nn

from sw_anomaly.methods.folding import folded
from sw_anomaly.methods.unet.networks import create_model


def after_training(network):
    """Give the batch norms statistics and weights unlike those that they begin with."""
    torch.manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_var, norm.weight.data):
                tensor.uniform_(0.5, 2)
            for tensor in (norm.running_mean, norm.bias.data):
                tensor.normal_()
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


class Backbone(nn.Module):
    def __init__(self, name, channels):
        super().__init__()
        self.maps = timm.create_model(name, features_only=True, in_chans=channels)

    def forward(self, x):
        return self.maps(x)[-1]


@pytest.mark.parametrize(
    ("build", "name", "channels", "left"),
    [
        (Backbone, "resnet10t", 3, 1),  # which reads a sequence that ends in a convolution
        (Backbone, "tf_efficientnet_lite0", 3, 0),
        (Backbone, "mobilenetv3_small_050", 3, 0),
        (Backbone, "regnetx_002", 3, 0),
        (create_model, "swnano", 6, 0),
        (create_model, "swtiny_pp", 6, 27),  # which read shift-wise convolutions
    ],
)
def test_a_folded_network_is_the_same_function_without_batch_norms(build, name, channels, left):
    network = after_training(build(name, channels))
    x, before = torch.randn(1, channels, 64, 64), norms(network)
    with torch.no_grad():
        wanted = network(x)
        torch.testing.assert_close(folded(network)(x), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    assert norms(folded(network)) == left < before == norms(network)


class ReadTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class CalledTwice(ReadTwice):
    def forward(self, x):
        return self.norm(self.conv(self.norm(self.conv(x))))


class NormFirst(ReadTwice):
    def forward(self, x):
        return self.conv(self.norm(x))


class Undecided(ReadTwice):
    def forward(self, x):
        return self.norm(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("kind", [ReadTwice, CalledTwice, NormFirst, Undecided])
def test_what_cannot_be_folded_stays_as_it_is(kind):
    network = after_training(kind())
    x = torch.randn(1, 3, 4, 4).abs()
    torch.testing.assert_close(folded(network)(x), network(x))
    assert norms(folded(network)) == 1
