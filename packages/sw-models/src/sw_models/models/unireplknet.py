"""UniRepLKNet: dense 13x13 depthwise kernels trained as a sum of dilated ones, the baseline of version 2's skeleton.

Paper: `UniRepLKNet: A Universal Perception Large-Kernel ConvNet` - https://arxiv.org/abs/2311.15599

    depthwise (13x13 or 3x3) -> BN -> squeeze-excite -> linear -> GELU -> GRN -> linear -> BN -> layer scale -> + input

The pointwise layers are linear layers on channels-last maps, as its authors publish it, so that a comparison of speed
is one with their network.
"""

from __future__ import annotations

from typing import Any, cast

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
)
from sw_models.models._base import (
    checkpoint_filter_fn as checkpoint_filter_fn,
)
from sw_models.models._reparam import batch_norm_affine, with_weights
from sw_models.models._stems import conv_downsample, conv_stem

# Dilated branches beside a large kernel: (width, dilation); table 2 of the paper, for the only large size used here.
_BRANCHES = {13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5))}


class DilatedReparamConv2d(nn.Module):
    """A dense depthwise kernel plus dilated small ones, each with a batch norm; they merge into one for inference."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kernel_size not in _BRANCHES:
            raise ValueError(f"kernel_size: got {kernel_size}, want one of {sorted(_BRANCHES)}")
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.kernel_size = kernel_size
        self.branches = nn.ModuleList(
            nn.Sequential(_depthwise(channels, width, dilation, **dd), nn.BatchNorm2d(channels, **dd))
            for width, dilation in ((kernel_size, 1), *_BRANCHES[kernel_size])
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the normalised maps, ``[B, C, H, W]`` as ``x``."""
        y = self.branches[0](x)
        for number, branch in enumerate(self.branches):
            if number > 0:
                y = y + branch(x)
        return y

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """Return the one depthwise convolution that equals this layer in evaluation mode."""
        merged: Any = self.branches[0]
        weight, bias = torch.zeros_like(merged[0].weight), torch.zeros_like(merged[1].bias)
        for branch in self.branches:
            conv, norm = cast("tuple[nn.Conv2d, nn.BatchNorm2d]", branch)
            scale, shift = batch_norm_affine(norm)
            step = conv.dilation[0]
            margin = weight.shape[-1] // 2 - step * (conv.kernel_size[0] // 2)
            taps = slice(margin, weight.shape[-1] - margin, step)
            weight[:, :, taps, taps] += conv.weight * scale[:, None, None, None]
            bias += shift
        return with_weights(merged[0], weight, bias)


class ResponseNorm(nn.Module):
    """Global response normalisation of channels-last maps ``[B, H, W, C]``; without ``bias`` once deployed."""

    def __init__(
        self, channels: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.eps = 1e-6
        self.weight = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.bias: nn.Parameter | None = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the norm the identity."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map."""
        norm = x.norm(p=2, dim=(1, 2), keepdim=True)
        scaled = (self.weight * (norm / (norm.mean(dim=-1, keepdim=True) + self.eps)) + 1) * x
        return scaled if self.bias is None else scaled + self.bias


class UniRepLKNetBlock(nn.Module):
    """Depthwise convolution and pointwise MLP with a residual, ``[B, dim, H, W] -> [B, dim, H, W]``."""

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        layer_scale_init: float = 1e-6,
        drop_path: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        large = kernel_size in _BRANCHES
        self.conv = DilatedReparamConv2d(dim, kernel_size, **dd) if large else _depthwise(dim, kernel_size, **dd)
        self.norm: nn.Module = nn.BatchNorm2d(dim, **dd)
        self.se = SqueezeExcite(dim, rd_channels=dim // 4, **dd)
        self.expand = nn.Linear(dim, 4 * dim, **dd)
        self.act = nn.GELU()
        self.grn = ResponseNorm(4 * dim, **dd)
        self.project = nn.Linear(4 * dim, dim, bias=False, **dd)
        self.project_norm: nn.Module = nn.BatchNorm2d(dim, **dd)
        self.layer_scale_init = layer_scale_init
        self.gamma: nn.Parameter | None = nn.Parameter(torch.empty(dim, **dd))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the layer scale at its initial value."""
        if self.gamma is not None:  # as it is until deployment
            nn.init.constant_(self.gamma, self.layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus the block's branch."""
        y = self.se(self.norm(self.conv(x))).permute(0, 2, 3, 1)
        y = self.project(self.grn(self.act(self.expand(y)))).permute(0, 3, 1, 2)
        y = self.project_norm(y)
        return x + self.drop_path(y if self.gamma is None else self.gamma[:, None, None] * y)

    @torch.no_grad()
    def fuse(self) -> UniRepLKNetBlock:
        """Fold the norms, the layer scale and the response norm's bias into their neighbours, in place."""
        if self.gamma is None or self.grn.bias is None:
            return self
        scale, shift = batch_norm_affine(self.norm)
        conv: Any = self.conv.fuse() if isinstance(self.conv, DilatedReparamConv2d) else self.conv
        bias = shift if conv.bias is None else shift + conv.bias * scale
        self.conv, self.norm = with_weights(conv, conv.weight * scale[:, None, None, None], bias), nn.Identity()

        scale, shift = batch_norm_affine(self.project_norm)
        weight = self.project.weight
        bias = (self.grn.bias @ weight.T * scale + shift) * self.gamma
        self.project.bias = nn.Parameter(bias)
        self.project.weight = nn.Parameter(weight * (scale * self.gamma)[:, None])
        self.project_norm, self.gamma, self.grn.bias = nn.Identity(), None, None
        return self


class UniRepLKNet(StagedNet):
    """UniRepLKNet.

    Args:
        in_chans: channels of the image.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: pooling of the head.
        output_stride: only 32 is possible.
        depths: blocks per stage.
        dims: channels per stage.
        kernel_sizes: for each stage the kernels of its first blocks, repeated to its depth; 13 or 3.
        layer_scale_init: initial layer scale.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth, rising linearly to this rate at the last block.
        device: where the parameters live.
        dtype: of the parameters.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        output_stride: int = 32,
        depths: tuple[int, ...] = (3, 3, 18, 3),
        dims: tuple[int, ...] = (80, 160, 320, 640),
        kernel_sizes: tuple[tuple[int, ...], ...] = ((3,), (13,), (13, 3), (13,)),
        layer_scale_init: float = 1e-6,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_arguments(output_stride, depths, dims=dims, kernel_sizes=kernel_sizes)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        drop_paths = drop_path_rates(drop_path_rate, depths)
        stages = []
        for i, (dim, kernels) in enumerate(zip(dims, kernel_sizes, strict=True)):
            blocks = [
                UniRepLKNetBlock(dim, kernels[j % len(kernels)], layer_scale_init, rate, **dd)
                for j, rate in enumerate(drop_paths[i])
            ]
            stages.append(Stage(conv_downsample(dims[i - 1], dim, **dd) if i else nn.Identity(), blocks))
        stem = conv_stem(in_chans, dims[0], **dd)
        super().__init__(stem, stages, dims, in_chans, num_classes, global_pool, drop_rate, **dd)


def _depthwise(channels: int, width: int, dilation: int = 1, **dd: Any) -> nn.Conv2d:
    padding = dilation * (width // 2)
    return nn.Conv2d(channels, channels, width, padding=padding, dilation=dilation, groups=channels, bias=False, **dd)


_CONFIG = config(
    paper_ids="arXiv:2311.15599",
    paper_name="UniRepLKNet: A Universal Perception Large-Kernel ConvNet",
    origin_url="https://github.com/AILab-CVC/UniRepLKNet",
)

default_cfgs = generate_default_cfgs({"unireplknet_tiny.untrained": _CONFIG, "unireplknet_small.untrained": _CONFIG})


@register_model
def unireplknet_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build UniRepLKNet-T, 31 M parameters: in the third stage every second block has the large kernel."""
    arguments = {"depths": (3, 3, 18, 3), "dims": (80, 160, 320, 640), "kernel_sizes": ((3,), (13,), (13, 3), (13,))}
    return create(UniRepLKNet, "unireplknet_tiny", pretrained, **{**arguments, **kwargs})


@register_model
def unireplknet_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build UniRepLKNet-S, 56 M parameters: in the third stage every third block has the large kernel."""
    arguments = {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768), "kernel_sizes": ((3,), (13,), (13, 3, 3), (13,))}
    return create(UniRepLKNet, "unireplknet_small", pretrained, **{**arguments, **kwargs})
