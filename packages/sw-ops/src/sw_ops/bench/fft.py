"""A depthwise convolution with a dense kernel through the Fourier transform, as ``torch.fft`` offers it."""

from __future__ import annotations

import torch
from torch import Tensor


def spectrum_of(weight: Tensor, size: int) -> Tensor:
    """Return what :func:`convolve` multiplies by: of kernels ``[C, 1, k, k]``, for maps of ``size x size``."""
    length = _fast_length(size + weight.shape[-1] // 2)  # so much that what wraps around is cut off
    return torch.fft.rfft2(weight[:, 0], s=(length, length)).conj()


def convolve(x: Tensor, spectrum: Tensor, kernel_size: int) -> Tensor:
    """Correlate each channel of ``x``, ``[B, C, H, H]``, with its kernel; zero padded, same size."""
    size, length, centre = x.shape[-1], spectrum.shape[-2], kernel_size // 2
    whole = torch.fft.irfft2(torch.fft.rfft2(x, s=(length, length)) * spectrum, s=(length, length))
    return whole.roll((centre, centre), (2, 3))[:, :, :size, :size]


def _fast_length(least: int) -> int:
    """Return the next number that is a product of 2, 3 and 5, for which transforms are fast."""
    return next(n for n in range(least, 2 * least) if pow(30, 10, n) == 0)
