"""The ConvNeXt skeleton (arXiv 2201.03545) around any depthwise layer: what shift-wise version 1 and SLaK share."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import DropPath, LayerNorm2d
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Depthwise layer, norm and pointwise MLP with a residual, ``[B, dim, H, W] -> [B, dim, H, W]``."""

    def __init__(
        self,
        dim: int,
        conv: nn.Module,
        layer_scale_init: float = 1e-6,
        drop_path: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv = conv
        self.norm = LayerNorm2d(dim, **dd)
        self.expand = nn.Conv2d(dim, 4 * dim, 1, **dd)
        self.act = nn.GELU()
        self.project = nn.Conv2d(4 * dim, dim, 1, **dd)
        self.layer_scale_init = layer_scale_init
        self.gamma = nn.Parameter(torch.empty(dim, **dd))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the layer scale at its initial value."""
        nn.init.constant_(self.gamma, self.layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus the block's branch."""
        y = self.project(self.act(self.expand(self.norm(self.conv(x)))))
        return x + self.drop_path(self.gamma[:, None, None] * y)
