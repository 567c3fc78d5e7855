"""Counts of multiply-accumulate operations, from shapes alone: nothing is computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sw_models.models.slak import FusedStripedConv2d, StripedConv2d
from sw_ops import FusedShiftwiseConv2d, ShiftwiseConv2d


def count_macs(model: nn.Module, size: int | tuple[int, int] = 224) -> dict[str, int]:
    """Return the multiply-accumulate operations of one image, by kind of layer.

    A shift-wise layer counts as what it is defined by: one small convolution per slot and path, on a map that is
    ``k - 1`` larger than the image, as in the published code. ``large kernels, fused`` is what runs in its place: two
    stripes. Norms, activations and additions are no multiply-accumulates and are left out.

    Args:
        model: an undeployed model of this package, or any network of convolutions and linear layers.
        size: of the image, in pixels; height and width, or one number for both.

    Returns:
        Counts under "large kernels", "large kernels, fused", "depthwise", "pointwise", "convolutions" (the others),
        "linear" and "total", which has no fused ones.
    """
    counts = dict.fromkeys(
        ("large kernels", "large kernels, fused", "depthwise", "pointwise", "convolutions", "linear"), 0
    )
    height, width = (size, size) if isinstance(size, int) else size
    twin = copy.deepcopy(model).to("meta").eval()

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for kind, macs in _layer_macs(layer, output).items():
            counts[kind] += macs // output.shape[0]

    for layer in twin.modules():
        layer.register_forward_hook(count)
    first = next(m for m in twin.modules() if isinstance(m, nn.Conv2d))
    twin(torch.empty(1, first.in_channels, height, width, device="meta", dtype=first.weight.dtype))
    return {**counts, "total": sum(n for kind, n in counts.items() if kind != "large kernels, fused")}


def _layer_macs(layer: Any, output: Tensor) -> dict[str, int]:
    if isinstance(layer, ShiftwiseConv2d):
        batch, _, height, width = output.shape
        k = layer.small_kernel
        taps = sum(weight.numel() for weight in layer.weights)
        stripes = len(layer.rep_channels) * 2 * k * k * layer.table.slots
        return {
            "large kernels": batch * taps * (height + k - 1) * (width + k - 1),
            "large kernels, fused": batch * stripes * height * width,
        }
    if isinstance(layer, StripedConv2d):
        taps = layer.horizontal.numel() + layer.vertical.numel()
        pixels = output.numel() // output.shape[1]
        return {"large kernels": (taps + layer.square.numel()) * pixels, "large kernels, fused": taps * pixels}
    if isinstance(layer, FusedShiftwiseConv2d | FusedStripedConv2d):
        return {"large kernels": 2 * layer.horizontal.numel() * output.numel() // output.shape[1]}
    if isinstance(layer, nn.Conv2d):
        if layer.groups > 1:
            kind = "depthwise"
        else:
            kind = "pointwise" if layer.kernel_size == (1, 1) else "convolutions"
        return {kind: layer.weight.numel() * output.numel() // output.shape[1]}
    if isinstance(layer, nn.Linear):
        # A linear layer on a map is a pointwise convolution.
        kind = "linear" if output.ndim == 2 else "pointwise"
        return {kind: layer.weight.numel() * output.numel() // output.shape[-1]}
    return {}
