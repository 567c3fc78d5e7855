"""ShiftwiseNet with coordinate attention: the variant for finding defects in images of industrial parts.

Coordinate attention: `Coordinate Attention for Efficient Mobile Network Design` - https://arxiv.org/abs/2103.02907

    shift-wise conv -> BN -> coordinate attention -> 1x1 expand -> 3x3 depthwise -> GroupNorm -> GELU -> GRN
    -> 1x1 project -> BN -> layer scale -> + input
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import DropPath
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from sw_models.models._base import (
    Stage,
    config,
    create,
)
from sw_models.models._base import (
    checkpoint_filter_fn as checkpoint_filter_fn,
)
from sw_models.models.shiftwise import GlobalResponseNorm, ShiftwiseNet
from sw_ops import ChannelSplit, ShiftTable, ShiftwiseConv2d


class CoordinateAttention(nn.Module):
    """Scale every pixel by a gate of its row times a gate of its column, ``[B, dim, H, W] -> [B, dim, H, W]``."""

    def __init__(self, dim: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        hidden = max(16, dim // 16)
        self.reduce = nn.Conv2d(dim, hidden, 1, **dd)
        self.norm = nn.BatchNorm2d(hidden, **dd)
        self.act = nn.SiLU()
        self.rows = nn.Conv2d(hidden, dim, 1, **dd)
        self.columns = nn.Conv2d(hidden, dim, 1, **dd)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        height, width = x.shape[2], x.shape[3]
        means = torch.cat([x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True).transpose(2, 3)], dim=2)
        rows, columns = self.act(self.norm(self.reduce(means))).split([height, width], dim=2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()


class CoordAttBlock(nn.Module):
    """The block of :class:`.ShiftwiseNet` with coordinate attention and a depthwise layer in its MLP."""

    def __init__(
        self,
        dim: int,
        table: ShiftTable,
        split: ChannelSplit,
        n_path: int = 2,
        layer_scale_init: float = 1e-6,
        drop_path: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv = ShiftwiseConv2d(
            dim, table.kernel_size, table.small_kernel, n_path=n_path, n_rep=table.n_rep, table=table, split=split, **dd
        )
        self.norm = nn.BatchNorm2d(dim, **dd)
        self.attention = CoordinateAttention(dim, **dd)
        self.expand = nn.Conv2d(dim, 4 * dim, 1, **dd)
        self.local_conv = nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim, bias=False, **dd)
        self.local_norm = nn.GroupNorm(1, 4 * dim, **dd)
        self.act = nn.GELU()
        self.grn = GlobalResponseNorm(4 * dim, **dd)
        self.project = nn.Conv2d(4 * dim, dim, 1, bias=False, **dd)
        self.project_norm = nn.BatchNorm2d(dim, **dd)
        self.layer_scale_init = layer_scale_init
        self.gamma = nn.Parameter(torch.empty(dim, **dd))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the layer scale at its initial value."""
        nn.init.constant_(self.gamma, self.layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus the block's branch."""
        y = self.attention(self.norm(self.conv(x)))
        y = self.local_norm(self.local_conv(self.expand(y)))
        y = self.project_norm(self.project(self.grn(self.act(y))))
        return x + self.drop_path(self.gamma[:, None, None] * y)


class ShiftwiseCoordAttNet(ShiftwiseNet):
    """ShiftwiseNet of blocks with coordinate attention. Arguments as for :class:`.shiftwise.ShiftwiseNet`.

    Example:
        >>> ShiftwiseCoordAttNet(num_classes=10, depths=(1, 1, 2, 1), dims=(16, 32, 64, 128)).num_features
        128
    """

    block = CoordAttBlock
    stage = Stage


default_cfgs = generate_default_cfgs(
    {"shiftwise_tiny_coordatt.untrained": config(origin_url="https://github.com/yeji02/ShiftWiseConv")}
)


@register_model
def shiftwise_tiny_coordatt(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build the variant in the tiny size, 31.1 M parameters."""
    arguments = {"depths": (3, 3, 18, 3), "dims": (80, 160, 320, 640), "kernel_sizes": (51, 49, 45, 13)}
    return create(ShiftwiseCoordAttNet, "shiftwise_tiny_coordatt", pretrained, **{**arguments, **kwargs})
