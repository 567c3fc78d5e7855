"""Effective receptive fields: how much each pixel of the image moves the centre of the last map.

Source: `Understanding the Effective Receptive Field in Deep CNNs`, arXiv 1701.04128; measured as in RepLKNet's and the
shift-wise papers: the gradient of the positive part of the central feature, summed over channels, clipped at 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sw_models.errors import InputError

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)


def receptive_field(model: Any, images: Iterable[Tensor]) -> np.ndarray:
    """Return the mean contribution of every pixel, float64 ``[H, W]``.

    Args:
        model: a model with ``forward_features``, with trained weights; it is put in evaluation mode. Freshly built
            models have a layer scale of 1e-6 and see next to nothing.
        images: normalised images ``[1, C, H, W]`` of one size. Those whose gradient is not finite are left out.

    Raises:
        InputError: no image was left.
    """
    model.eval()
    total, used = None, 0
    for image in images:
        image = image.detach().clone().requires_grad_()
        features = model.forward_features(image)
        height, width = features.shape[2:]
        centre = features[:, :, height // 2, width // 2].relu().sum()
        (gradient,) = torch.autograd.grad(centre, image)
        contribution = gradient.relu().sum(dim=(0, 1)).double()
        if torch.isfinite(contribution).all():
            total = contribution if total is None else total + contribution
            used += 1
    if total is None:
        raise InputError("images: got none with a finite gradient, want at least one")
    return (total / used).numpy()


def area_shares(field: np.ndarray, thresholds: Iterable[float] = THRESHOLDS) -> dict[float, tuple[int, float]]:
    """Return, for each threshold, the smallest centred square that holds more than that share of the field.

    The field is taken on a logarithmic scale, ``log10(1 + field)``, as in the papers.

    Returns:
        For each threshold the side in pixels and the square's share of the area of the image. Where no centred square
        reaches the threshold (an image that is not square), the largest there is.
    """
    scaled = np.log10(field + 1)
    centre_row, centre_column = (n // 2 for n in field.shape)
    largest = min(centre_row, centre_column, field.shape[0] - 1 - centre_row, field.shape[1] - 1 - centre_column)
    shares = []
    for reach in range(1, largest + 1):
        square = scaled[centre_row - reach : centre_row + reach + 1, centre_column - reach : centre_column + reach + 1]
        shares.append(square.sum() / scaled.sum())
    found = {}
    for threshold in thresholds:
        reach = 1 + next((i for i, share in enumerate(shares) if share > threshold), len(shares) - 1)
        side = 2 * reach + 1
        found[threshold] = (side, side * side / field.size)
    return found
