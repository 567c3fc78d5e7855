"""ShiftwiseNet, version 1: the ConvNeXt skeleton of SLaK with shift-wise convolutions.

Paper: `ShiftwiseConv: Small Convolutional Kernel with Large Kernel Effect` - https://arxiv.org/abs/2401.12736

    shift-wise conv -> LayerNorm -> 1x1 expand -> GELU -> 1x1 project -> layer scale -> + input
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import generate_default_cfgs, register_model
from torch import nn

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
from sw_models.models._stems import patch_downsample, patch_stem
from sw_models.models.convnext import ConvNeXtBlock
from sw_ops import ChannelSplit, ShiftTable, ShiftwiseConv2d


class ShiftwiseV1Net(StagedNet):
    """Version 1 of the published network. Arguments as for :class:`.shiftwise.ShiftwiseNet`.

    Example:
        >>> ShiftwiseV1Net(num_classes=10, depths=(1, 1, 2, 1), dims=(16, 32, 64, 128)).num_features
        128
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        output_stride: int = 32,
        depths: tuple[int, ...] = (3, 3, 9, 3),
        dims: tuple[int, ...] = (96, 192, 384, 768),
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
            split = ChannelSplit.published(dim, ghost_ratio, even=False)
            layer: dict[str, Any] = {"split": split, "n_path": n_path, "n_rep": n_rep, **dd}
            blocks = []
            for rate in drop_paths[i]:
                table = ShiftTable.shuffled(len(split.rep), kernel_size, small_kernel, n_rep, next(seeds))
                conv = ShiftwiseConv2d(dim, kernel_size, small_kernel, table=table, **layer)
                blocks.append(ConvNeXtBlock(dim, conv, layer_scale_init, rate, **dd))
            stages.append(Stage(patch_downsample(dims[i - 1], dim, **dd) if i else nn.Identity(), blocks))
        stem = patch_stem(in_chans, dims[0], **dd)
        super().__init__(stem, stages, dims, in_chans, num_classes, global_pool, drop_rate, **dd)


_CONFIG = config(
    first_conv="stem.conv",
    paper_ids="arXiv:2401.12736",
    paper_name="ShiftwiseConv: Small Convolutional Kernel with Large Kernel Effect",
    origin_url="https://github.com/lidc54/shift-wiseConv",
)

default_cfgs = generate_default_cfgs(
    {f"shiftwise_v1_{size}.untrained": _CONFIG for size in ("tiny", "small", "base", "large")}
)


@register_model
def shiftwise_v1_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build version 1, tiny, 29.4 M parameters."""
    arguments = {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)}
    return create(ShiftwiseV1Net, "shiftwise_v1_tiny", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_v1_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build version 1, small, 52.3 M parameters."""
    arguments = {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768)}
    return create(ShiftwiseV1Net, "shiftwise_v1_small", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_v1_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build version 1, base, 91.3 M parameters."""
    arguments = {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)}
    return create(ShiftwiseV1Net, "shiftwise_v1_base", pretrained, **{**arguments, **kwargs})


@register_model
def shiftwise_v1_large(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build version 1, large, 201.9 M parameters."""
    arguments = {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536)}
    return create(ShiftwiseV1Net, "shiftwise_v1_large", pretrained, **{**arguments, **kwargs})
