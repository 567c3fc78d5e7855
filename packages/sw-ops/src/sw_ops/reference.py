"""The same convolutions in plain PyTorch: what the kernels are checked against, and the form to export.

On a GPU without kernels the stripes run as matrix products, which cuBLAS has fast code for; cuDNN has none for a
depthwise convolution this wide.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def stripe_conv2d(
    x: Tensor, horizontal: Tensor, vertical: Tensor, square: Tensor, anchor: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maps ``h, v, s``; see :func:`sw_ops.stripe_conv2d`."""
    centre = square.shape[-1] // 2
    h, v = _stripes(x, horizontal, vertical, anchor)
    return h, v, depthwise(x, square, centre, centre)


def stripe_conv2d_fused(x: Tensor, horizontal: Tensor, vertical: Tensor, bias: Tensor, anchor: int) -> Tensor:
    """Return ``h + v + bias``; see :func:`sw_ops.stripe_conv2d_fused`."""
    h, v = _stripes(x, horizontal, vertical, anchor)
    return h + v + bias[:, None, None]


def _stripes(x: Tensor, horizontal: Tensor, vertical: Tensor, anchor: int) -> tuple[Tensor, Tensor]:
    if x.is_cuda:
        h = toeplitz(x, horizontal, anchor)
        return h, toeplitz(x.transpose(2, 3), vertical.transpose(1, 2), anchor).transpose(2, 3)
    centre = horizontal.shape[1] // 2
    return depthwise(x, horizontal, centre, anchor), depthwise(x, vertical, anchor, centre)


def depthwise(x: Tensor, kernel: Tensor, anchor_row: int, anchor_column: int) -> Tensor:
    """Correlate each channel with its kernel, whose tap ``(anchor_row, anchor_column)`` stands on the pixel itself."""
    rows, columns = kernel.shape[1:]
    padded = F.pad(x, (anchor_column, columns - 1 - anchor_column, anchor_row, rows - 1 - anchor_row))
    return F.conv2d(padded, kernel.unsqueeze(1), groups=x.shape[1])


def toeplitz(x: Tensor, kernel: Tensor, anchor: int) -> Tensor:
    """Correlate each row with a wide kernel ``[C, k, L]``: a product with a banded ``W x W`` matrix per kernel row."""
    channels, k, length = kernel.shape
    batch, _, height, width = x.shape
    pixel = torch.arange(width, device=x.device)
    tap = pixel[:, None] - pixel[None, :] + anchor  # [W in, W out]
    band = kernel[:, :, tap.clamp(0, length - 1)] * ((tap >= 0) & (tap < length))  # [C, k, W, W]
    rows = F.pad(x, (0, 0, k // 2, k // 2)).transpose(0, 1)
    products = [rows[:, :, a : a + height].reshape(channels, batch * height, width) @ band[:, a] for a in range(k)]
    return torch.stack(products).sum(dim=0).view(channels, batch, height, width).transpose(0, 1)
