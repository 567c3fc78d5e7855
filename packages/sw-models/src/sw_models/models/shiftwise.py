"""ShiftwiseNet, version 2: a UniRepLKNet-like network whose depthwise layers are shift-wise convolutions.

Paper: `ShiftwiseConv: Small Convolutional Kernel with Large Kernel Effect` - https://arxiv.org/abs/2401.12736
Skeleton: `UniRepLKNet` - https://arxiv.org/abs/2311.15599

A stage is a strided convolution and a row of blocks; a block is a large depthwise kernel and a pointwise MLP:

    shift-wise conv -> BN -> squeeze-excite -> 1x1 expand -> GELU -> GRN -> 1x1 project -> BN -> layer scale -> + input
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import DropPath, SqueezeExcite
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from sw_models.models._base import (
    Stage,
    StagedNet,
    check_arguments,
    config,
    create,
    drop_path_rates,
    shuffle_seeds,
)
from sw_models.models._base import (
    checkpoint_filter_fn as checkpoint_filter_fn,
)
from sw_models.models._deployed import FusedShiftwiseStage
from sw_models.models._stems import conv_downsample, conv_stem
from sw_ops import ChannelSplit, ShiftTable, ShiftwiseConv2d, global_response_norm

torch.fx.wrap("global_response_norm")  # it asks for devices, which symbolic tracing has not

__all__ = ["GlobalResponseNorm", "ShiftwiseBlock", "ShiftwiseNet"]


class GlobalResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt V2, arXiv 2301.00808) of ``[B, C, H, W]``, in two passes over ``x``.

    ``x * (1 + weight * n) + bias``, where ``n`` is the L2 norm of each channel's map over the mean of those norms.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the norm the identity."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, in the dtype of ``x``."""
        return global_response_norm(x, self.weight, self.bias, self.eps)


class ShiftwiseBlock(nn.Module):
    """Shift-wise convolution and pointwise MLP with a residual, ``[B, dim, H, W] -> [B, dim, H, W]``."""

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
        self.se = SqueezeExcite(dim, rd_channels=dim // 4, **dd)
        self.expand = nn.Conv2d(dim, 4 * dim, 1, **dd)
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
        y = self.se(self.norm(self.conv(x)))
        y = self.grn(self.act(self.expand(y)))
        y = self.project_norm(self.project(y))
        return x + self.drop_path(self.gamma[:, None, None] * y)


class ShiftwiseStage(Stage):
    """A stage whose blocks share one split of the channels."""

    @torch.no_grad()
    def fuse(self) -> FusedShiftwiseStage:
        """Return the stage for inference; the modules of this one are used up."""
        return FusedShiftwiseStage(self)


class ShiftwiseNet(StagedNet):
    """ShiftwiseNet: four stages at strides 4, 8, 16 and 32, then pooling, norm and classifier.

    Args:
        in_chans: channels of the image.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: "avg", "max", "avgmax", ... as for timm's heads; "" for none.
        output_stride: only 32 is possible.
        depths: blocks per stage.
        dims: channels per stage.
        kernel_sizes: large kernel of each stage.
        small_kernel: small kernel that the large ones are made of.
        ghost_ratio: share of the channels that the shift-wise layers copy.
        n_path: parallel sets of small kernels.
        n_rep: shuffles of the slots.
        layer_scale_init: initial layer scale.
        table_seed: draw shuffles of its own for every layer, from this seed on; None gives all layers the published
            ones, shared per stage.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth, rising linearly to this rate at the last block.
        device: where the parameters live.
        dtype: of the parameters.
    """

    block: type[nn.Module] = ShiftwiseBlock
    stage: type[Stage] = ShiftwiseStage

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        output_stride: int = 32,
        depths: tuple[int, ...] = (3, 3, 18, 3),
        dims: tuple[int, ...] = (80, 160, 320, 640),
        kernel_sizes: tuple[int, ...] = (51, 49, 47, 13),
        small_kernel: int = 3,
        ghost_ratio: float = 0.23,
        n_path: int = 2,
        n_rep: int = 4,
        layer_scale_init: float = 1e-6,
        table_seed: int | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_arguments(output_stride, depths, dims=dims, kernel_sizes=kernel_sizes)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        drop_paths = drop_path_rates(drop_path_rate, depths)
        seeds = shuffle_seeds(table_seed)
        stages = []
        for i, (dim, kernel_size) in enumerate(zip(dims, kernel_sizes, strict=True)):
            split = ChannelSplit.published(dim, ghost_ratio)
            blocks = []
            for rate in drop_paths[i]:
                table = ShiftTable.shuffled(len(split.rep), kernel_size, small_kernel, n_rep, next(seeds))
                blocks.append(self.block(dim, table, split, n_path, layer_scale_init, rate, **dd))
            stages.append(self.stage(conv_downsample(dims[i - 1], dim, **dd) if i else nn.Identity(), blocks))
        stem = conv_stem(in_chans, dims[0], **dd)
        super().__init__(stem, stages, dims, in_chans, num_classes, global_pool, drop_rate, **dd)


_PAPER = {
    "paper_ids": "arXiv:2401.12736",
    "paper_name": "ShiftwiseConv: Small Convolutional Kernel with Large Kernel Effect",
    "origin_url": "https://github.com/lidc54/shift-wiseConv",
}

default_cfgs = generate_default_cfgs(
    {f"shiftwise_{size}.untrained": config(**_PAPER) for size in ("pico", "nano", "tiny", "small", "base", "large")}
)


@register_model
def shiftwise_pico(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ShiftwiseNet-P, 0.5 M parameters, for experiments on small images; not among the published sizes."""
    arguments = {"depths": (1, 1, 3, 1), "dims": (16, 32, 64, 128)}
    return create(ShiftwiseNet, "shiftwise_pico", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_nano(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ShiftwiseNet-N, 1.6 M parameters, for CPUs and tests; not among the published sizes."""
    arguments = {"depths": (2, 2, 4, 2), "dims": (24, 48, 96, 192)}
    return create(ShiftwiseNet, "shiftwise_nano", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ShiftwiseNet-T, 31.8 M parameters."""
    arguments = {"depths": (3, 3, 18, 3), "dims": (80, 160, 320, 640)}
    return create(ShiftwiseNet, "shiftwise_tiny", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ShiftwiseNet-S, 57.3 M parameters."""
    arguments = {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768)}
    return create(ShiftwiseNet, "shiftwise_small", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ShiftwiseNet-B, 100.3 M parameters."""
    arguments = {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)}
    return create(ShiftwiseNet, "shiftwise_base", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_large(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ShiftwiseNet-L, 221.8 M parameters."""
    arguments = {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536)}
    return create(ShiftwiseNet, "shiftwise_large", pretrained, **{**arguments, **kwargs})
