"""Measures how exact the fast algorithm is, beside plain sums of products and PyTorch's convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sw_ops.stripe import stripe_conv2d

CHANNELS, SIZE, LENGTH = 60, 56, 51  # the first stage of shiftwise_tiny
METHODS = ("fast", "exact", "PyTorch")
_ROW = SIZE // 2


def measure() -> dict[str, dict[str, float]]:
    """Convolve on the CPU in float32 with a 3x51 kernel per channel.

    Returns:
        By what was measured, a figure for each of ``METHODS``.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, CHANNELS, SIZE, SIZE, generator=generator)
    kernel = torch.randn(CHANNELS, 3, LENGTH, generator=generator)
    whole = torch.randint(-4, 5, x.shape, generator=generator).float()
    whole_kernel = torch.randint(-4, 5, kernel.shape, generator=generator).float()
    bright = torch.zeros_like(x)
    bright[:, :, _ROW] = 1e6
    bad = x.clone()
    bad[:, :, _ROW, _ROW] = float("nan")

    def by_method(x: Tensor, kernel: Tensor, figure: Callable[[Tensor], Tensor]) -> dict[str, float]:
        square = torch.zeros(CHANNELS, 3, 3)
        with torch.no_grad():
            maps = (
                stripe_conv2d(x, kernel, kernel.mT.contiguous(), square, LENGTH // 2)[0],
                stripe_conv2d(x, kernel, kernel.mT.contiguous(), square, LENGTH // 2, exact=True)[0],
                _by_pytorch(x, kernel),
            )
        return {method: figure(y).item() for method, y in zip(METHODS, maps, strict=True)}

    want, want_whole = _by_pytorch(x.double(), kernel.double()), _by_pytorch(whole.double(), whole_kernel.double())
    beyond = torch.arange(SIZE).sub(_ROW).abs() > 1
    return {
        "random numbers: largest error, of the largest output": by_method(
            x, kernel, lambda y: (y - want).abs().max() / want.abs().max()
        ),
        "whole numbers up to 4: largest error": by_method(
            whole, whole_kernel, lambda y: (y - want_whole).abs().max()
        ),
        "one row of 1e6 in zeros: largest output that should be 0": by_method(
            bright, kernel, lambda y: y[:, :, beyond].abs().max()
        ),
        "one NaN: outputs of a channel that are NaN": by_method(
            bad, kernel, lambda y: y[0, 0].isnan().sum()
        ),
    }  # fmt: skip


def _by_pytorch(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel.unsqueeze(1), padding=(1, LENGTH // 2), groups=CHANNELS)
