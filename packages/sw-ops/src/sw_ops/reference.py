"""The same convolutions in plain PyTorch: what the kernels are checked against, and the form to export.

On a GPU without kernels the stripes run as matrix products, which cuBLAS has fast code for; cuDNN has none for a
depthwise convolution this wide.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from sw_ops.maps import put_channels, select_channels

_MATRIX_PRODUCTS = ("cuda", "mps")  # devices where they are meant to serve the stripes
_LANES = 16  # onnxruntime has fast code for depthwise convolutions of a multiple of so many channels, and no other


def stripe_conv2d(
    x: Tensor, horizontal: Tensor, vertical: Tensor, square: Tensor, anchor: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maps ``h, v, s``; see :func:`sw_ops.stripe_conv2d`."""
    centre = square.shape[-1] // 2
    h, v = _stripes(x, horizontal, vertical, anchor)
    return h, v, depthwise(x, square, centre, centre)


def stripe_conv2d_fused(
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    bias: Tensor,
    anchor: int,
    channels: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    """Return ``h + v + bias``; see :func:`sw_ops.stripe_conv2d_fused`."""
    if channels is not None:
        x = x if order is None else select_channels(x, order)
        processed = stripe_conv2d_fused(select_channels(x, channels), horizontal, vertical, bias, anchor)
        return put_channels(x, channels, processed)
    h, v = _stripes(x, horizontal, vertical, anchor)
    return h + v + bias[:, None, None]


def _stripes(x: Tensor, horizontal: Tensor, vertical: Tensor, anchor: int) -> tuple[Tensor, Tensor]:
    if x.device.type in _MATRIX_PRODUCTS:
        return toeplitz(x, horizontal, vertical, anchor)
    channels, centre = horizontal.shape[0], horizontal.shape[1] // 2
    if _exporting_to_onnx() and (more := -int(channels) % _LANES):
        x, horizontal, vertical = (F.pad(t, (0, 0, 0, 0, 0, more)) for t in (x, horizontal, vertical))
    horizontal, anchor_h = _reaching(horizontal, 2, anchor, x.shape[3])
    vertical, anchor_v = _reaching(vertical, 1, anchor, x.shape[2])
    h, v = depthwise(x, horizontal, centre, anchor_h), depthwise(x, vertical, anchor_v, centre)
    return h[:, :channels], v[:, :channels]


def _exporting_to_onnx() -> bool:
    """Tell whether ``torch.onnx.export(dynamo=True)`` looks on; the older exporter loses what it knows of shapes."""
    return torch.onnx.is_in_onnx_export() and not torch.jit.is_tracing()


def _reaching(kernel: Tensor, dim: int, anchor: int, size: int) -> tuple[Tensor, int]:
    """Return the taps that reach a pixel of a line of ``size`` from another, and which of them stands on the pixel."""
    if type(size) is not int or not size:  # a symbol in a trace; nothing to reach
        return kernel, anchor
    first, last = max(0, anchor - size + 1), min(kernel.shape[dim], anchor + size)
    return kernel.narrow(dim, first, last - first), anchor - first


def depthwise(x: Tensor, kernel: Tensor, anchor_row: int, anchor_column: int) -> Tensor:
    """Correlate each channel with its kernel, whose tap ``(anchor_row, anchor_column)`` stands on the pixel itself."""
    rows, columns = kernel.shape[1:]
    below, right = rows - 1 - anchor_row, columns - 1 - anchor_column
    # What the convolution pads itself, it does not copy; but far along rows oneDNN is slow at that.
    own_row = anchor_row if below == anchor_row else 0
    own_column = anchor_column if right == anchor_column and columns <= rows else 0
    rest = (anchor_column - own_column, right - own_column, anchor_row - own_row, below - own_row)
    if any(rest):
        x = F.pad(x, rest)
    return F.conv2d(x, kernel.unsqueeze(1), padding=(own_row, own_column), groups=x.shape[1])


def toeplitz(x: Tensor, horizontal: Tensor, vertical: Tensor, anchor: int) -> tuple[Tensor, Tensor]:
    """Correlate with both stripes as two matrix products, for which one padded copy of ``x`` is made and kept.

    Along a stripe, the convolution of a line is a product with a banded Toeplitz matrix. The bands of a stripe's ``k``
    lines stand side by side, and what they give is added up, each shifted by a pixel across the stripe.
    """
    batch, channels, height, width = x.shape
    k = horizontal.shape[1]
    centre = k // 2
    lines = F.pad(x, (centre,) * 4).permute(1, 2, 0, 3).contiguous()  # [C, H', B, W']
    _, tall, _, wide = lines.shape

    bands = _bands(horizontal, anchor - centre, wide, width).transpose(1, 2).reshape(channels, wide, k * width)
    products = (lines.view(channels, tall * batch, wide) @ bands).view(channels, tall, batch, k, width)
    h = reduce(torch.add, [products[:, a : a + height, :, a] for a in range(k)])

    bands = _bands(vertical.transpose(1, 2), anchor - centre, tall, height).transpose(2, 3)
    bands = bands.reshape(channels, k * height, tall)
    products = (bands @ lines.view(channels, tall, batch * wide)).view(channels, k, height, batch, wide)
    v = reduce(torch.add, [products[:, a, :, :, a : a + width] for a in range(k)])
    return _like(x, h), _like(x, v)


def _like(x: Tensor, m: Tensor) -> Tensor:
    """Return the map ``m``, which is ``[C, H, B, W]``, in the layout of ``x``."""
    if x.stride(1) == 1:
        return m.permute(2, 1, 3, 0).contiguous().permute(0, 3, 1, 2)
    return m.permute(2, 0, 1, 3).contiguous()


def _bands(kernel: Tensor, anchor: int, inputs: int, outputs: int) -> Tensor:
    """Return ``[C, k, inputs, outputs]``: tap ``i - o + anchor`` of ``[C, k, L]``, zero outside of the stripe."""
    before, after = outputs - 1 - anchor, anchor + inputs - kernel.shape[2]
    return F.pad(kernel, (before, after)).unfold(2, inputs, 1).flip(2).transpose(2, 3)
