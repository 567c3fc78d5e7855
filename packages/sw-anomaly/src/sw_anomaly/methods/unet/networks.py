"""U-Nets that map an image to one logit per pixel: high where it is defective.

Ronneberger et al., "U-Net", arXiv 1505.04597. An encoder returns maps of falling resolution; a decoder goes
back up, joining each map with the upsampled deeper one. The models differ in the encoder and in what joins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

import sw_models  # noqa: F401 (registers its backbones with timm)

HEAD_BIAS = -2.0  # training starts from "hardly anything is defective"


class UNet(nn.Module):
    """Encoder, decoder and a 1x1 head: images [B, C, H, W] to logits [B, 1, H/r, W/r].

    ``r`` is the stride of the encoder's first map. ``encoder`` returns a list of maps of ``channels``, each at
    half the resolution of the one before, rounded up. ``join`` makes
    the module that follows each concatenation, ``gate`` the one that each map passes before it.
    """

    def __init__(
        self,
        encoder: nn.Module,
        channels: Sequence[int],
        join: Callable[[int, int], nn.Module],
        gate: Callable[[int], nn.Module] = lambda channels: nn.Identity(),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.gates = nn.ModuleList(gate(width) for width in channels)
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))  # (deeper, shallower), from the bottom up
        self.ups = nn.ModuleList(nn.ConvTranspose2d(deep, shallow, 2, stride=2) for deep, shallow in pairs)
        self.joins = nn.ModuleList(join(2 * shallow, shallow) for _, shallow in pairs)
        self.head = nn.Conv2d(channels[0], 1, 1)
        nn.init.constant_(cast(Tensor, self.head.bias), HEAD_BIAS)

    def decode(self, image: Tensor) -> Tensor:
        """Return what the head takes, [B, channels[0], H/r, W/r]."""
        *skips, x = (gate(level) for gate, level in zip(self.gates, self.encoder(image), strict=True))
        for up, join, skip in zip(self.ups, self.joins, reversed(skips), strict=True):
            x = join(torch.cat([up(x)[..., : skip.shape[2], : skip.shape[3]], skip], dim=1))
        return x

    def forward(self, image: Tensor) -> Tensor:
        """Logits of being defective."""
        return self.head(self.decode(image))


class ConvPyramid(nn.Module):
    """A convolution per level with max-pooling between levels: the encoder of the plain U-Net."""

    def __init__(self, channels: Sequence[int], in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, *channels)
        self.levels = nn.ModuleList(conv_instance_norm(a, b) for a, b in pairwise(widths))
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps at strides 1, 2, 4, ..."""
        maps = [self.levels[0](image)]
        for level in self.levels[1:]:
            maps.append(level(self.pool(maps[-1])))
        return maps


class FineDetail(nn.Module):
    """An encoder preceded by one more map at stride 2, for outlines finer than its own first map at stride 4."""

    def __init__(self, encoder: nn.Module, channels: int, in_channels: int) -> None:
        super().__init__()
        first = conv_batch_norm(in_channels, channels, stride=2)
        self.detail = nn.Sequential(first, conv_batch_norm(channels, channels))
        self.encoder = encoder

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the map at stride 2 and those of the encoder."""
        return [self.detail(image), *self.encoder(image)]


class ResidualJoin(nn.Module):
    """Two convolutions with a shortcut; as published, the second one has no norm."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to [B, channels, H, W]."""
        y = self.conv2(torch.relu(self.norm1(self.conv1(x))))
        return torch.relu(y + self.shortcut_norm(self.shortcut(x)))


class SqueezeGate(nn.Module):
    """Squeeze-and-excitation without biases: each channel is scaled by what the means of all say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, C, H, W], scaled."""
        scale = self.excite(torch.relu(self.squeeze(x.mean(dim=(2, 3)))))
        return x * torch.sigmoid(scale)[:, :, None, None]


def conv_instance_norm(in_channels: int, channels: int) -> nn.Sequential:
    """3x3 convolution, instance norm, ReLU."""
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.InstanceNorm2d(channels, affine=True), nn.ReLU(inplace=True))


def conv_batch_norm(in_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    conv = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def vanilla(in_channels: int = 3, channels: Sequence[int] = (64, 128, 256, 512)) -> UNet:
    """Return the plain U-Net, 3.8 M parameters, logits at full resolution."""
    return UNet(ConvPyramid(channels, in_channels), channels, conv_instance_norm)


def swtiny(in_channels: int = 3, **backbone: Any) -> UNet:
    """``shiftwise_tiny`` as encoder, 34.6 M parameters, logits at 1/4 resolution."""
    encoder = _encoder("shiftwise_tiny", in_channels, **backbone)
    return UNet(encoder, encoder.feature_info.channels(), conv_instance_norm)


def swtiny_pp(in_channels: int = 3, **backbone: Any) -> UNet:
    """``shiftwise_tiny_coordatt`` as encoder, gates and residual joins, 35.5 M parameters, logits at 1/4 resolution."""
    encoder = _encoder("shiftwise_tiny_coordatt", in_channels, **backbone)
    return UNet(encoder, encoder.feature_info.channels(), ResidualJoin, SqueezeGate)


def swnano(in_channels: int = 3) -> UNet:
    """Three stages of ``shiftwise_nano``, 0.6 M parameters, logits at 1/2 resolution; for training on CPUs."""
    encoder = _encoder("shiftwise_nano", in_channels, out_indices=(0, 1, 2))
    channels = [16, *encoder.feature_info.channels()]
    return UNet(FineDetail(encoder, channels[0], in_channels), channels, conv_batch_norm)


MODELS: dict[str, Callable[[int], UNet]] = {
    "swnano": swnano,
    "swtiny": swtiny,
    "swtiny_pp": swtiny_pp,
    "vanilla": vanilla,
}


def create_model(name: str, in_channels: int = 3, seed: int = 0) -> UNet:
    """Build a model of ``MODELS`` by name, its weights drawn from ``seed``; the global generators stay as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[name](in_channels)


def _encoder(name: str, in_channels: int, **backbone: Any) -> Any:
    """Return a backbone that returns maps, with layer scales that start at 1.

    From 1e-6, meant for the long trainings of image classification, the large kernels would come into play too late.
    """
    return timm.create_model(name, features_only=True, in_chans=in_channels, layer_scale_init=1.0, **backbone)
