"""Stems and the layers between stages: convolutions that overlap (UniRepLKNet's) and patches (ConvNeXt's)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from timm.layers import LayerNorm2d
from torch import nn


def conv_stem(in_chans: int, dim: int, **dd: Any) -> nn.Sequential:
    """Return a stem at stride 4: two 3x3 convolutions with norms, ``dim // 2`` channels between them."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, dim // 2, 3, stride=2, padding=1, **dd),
            norm1=LayerNorm2d(dim // 2, **dd),
            act=nn.GELU(),
            conv2=nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1, **dd),
            norm2=LayerNorm2d(dim, **dd),
        )
    )


def conv_downsample(in_dim: int, dim: int, **dd: Any) -> nn.Sequential:
    """Return a layer that halves the resolution: a 3x3 convolution and a norm."""
    conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, **dd)
    return nn.Sequential(OrderedDict(conv=conv, norm=LayerNorm2d(dim, **dd)))


def patch_stem(in_chans: int, dim: int, **dd: Any) -> nn.Sequential:
    """Return a stem at stride 4: patches of 4x4 pixels and a norm."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(in_chans, dim, 4, stride=4, **dd), norm=LayerNorm2d(dim, **dd)))


def patch_downsample(in_dim: int, dim: int, **dd: Any) -> nn.Sequential:
    """Return a layer that halves the resolution: a norm and patches of 2x2 pixels."""
    return nn.Sequential(OrderedDict(norm=LayerNorm2d(in_dim, **dd), conv=nn.Conv2d(in_dim, dim, 2, stride=2, **dd)))
