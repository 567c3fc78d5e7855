"""Folding of batch norms into the layers around them, for deployment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def batch_norm_affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Return what a batch norm does in evaluation mode as a scale and a shift per channel, ``[C]`` each.

    Raises:
        ValueError: the norm keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm: keeps no running statistics, want some (track_running_stats=True) to fold")
    scale = torch.rsqrt(norm.running_var + norm.eps) * norm.weight
    return scale, norm.bias - norm.running_mean * scale


def with_weights(conv: Any, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return a convolution like ``conv`` with other weights and a bias."""
    new = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        groups=conv.groups,
        device="meta",
    )
    new.weight, new.bias = nn.Parameter(weight), nn.Parameter(bias)
    return new
