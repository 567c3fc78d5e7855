"""The same convolutions in plain PyTorch: what the kernels are checked against, and the form to export."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def stripe_conv2d(
    x: Tensor, horizontal: Tensor, vertical: Tensor, square: Tensor, anchor: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maps ``h, v, s``; see :func:`sw_ops.stripe_conv2d`."""
    centre = square.shape[-1] // 2
    return (
        _depthwise(x, horizontal, centre, anchor),
        _depthwise(x, vertical, anchor, centre),
        _depthwise(x, square, centre, centre),
    )


def stripe_conv2d_fused(x: Tensor, horizontal: Tensor, vertical: Tensor, bias: Tensor, anchor: int) -> Tensor:
    """Return ``h + v + bias``; see :func:`sw_ops.stripe_conv2d_fused`."""
    centre = horizontal.shape[1] // 2
    h = _depthwise(x, horizontal, centre, anchor)
    return h + _depthwise(x, vertical, anchor, centre) + bias[:, None, None]


def _depthwise(x: Tensor, kernel: Tensor, anchor_row: int, anchor_column: int) -> Tensor:
    """Correlate each channel with its kernel, whose tap ``(anchor_row, anchor_column)`` stands on the pixel itself."""
    rows, columns = kernel.shape[1:]
    padded = F.pad(x, (anchor_column, columns - 1 - anchor_column, anchor_row, rows - 1 - anchor_row))
    return F.conv2d(padded, kernel.unsqueeze(1), groups=x.shape[1])
