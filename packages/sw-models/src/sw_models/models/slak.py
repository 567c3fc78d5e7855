"""SLaK: kernels of 51x51 as a wide and a tall stripe, the baseline that shift-wise version 1 is built on.

Paper: `More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity` - https://arxiv.org/abs/2207.03620

    51x5 + 5x51 + 5x5 depthwise -> LayerNorm -> 1x1 expand -> GELU -> 1x1 project -> layer scale -> + input

The widths are those of the paper's networks, 1.3 times ConvNeXt's; its sparsity (40 %) is a matter of training.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model, register_notrace_module
from torch import Tensor, nn

from sw_models.models._base import (
    Stage,
    StagedNet,
    check_arguments,
    config,
    create,
    draw_normal,
    drop_path_rates,
)
from sw_models.models._base import (
    checkpoint_filter_fn as checkpoint_filter_fn,
)
from sw_models.models._reparam import batch_norm_affine
from sw_models.models._stems import patch_downsample, patch_stem
from sw_models.models.convnext import ConvNeXtBlock
from sw_ops import slot_count, stripe_conv2d, stripe_conv2d_fused


@register_notrace_module
class StripedConv2d(nn.Module):
    """A wide, a tall and a square depthwise convolution, each with a batch norm, summed; ``[B, C, H, W]`` to the same.

    Args:
        channels: number of channels ``C``.
        kernel_size: length ``K`` of the stripes, odd.
        small_kernel: their thickness ``k``, and the width of the square, odd.
        exact: compute without the fast algorithm, see :func:`sw_ops.stripe_conv2d`. An attribute too, which may be set
            at any time; the fused form keeps it.
        device: where the parameters live.
        dtype: of the parameters.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        small_kernel: int,
        exact: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: got {kernel_size}, want an odd number")
        slot_count(kernel_size, small_kernel)  # raises if the two do not fit
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.kernel_size, self.small_kernel, self.exact = kernel_size, small_kernel, exact
        self.horizontal = nn.Parameter(torch.empty(channels, small_kernel, kernel_size, **dd))
        self.vertical = nn.Parameter(torch.empty(channels, kernel_size, small_kernel, **dd))
        self.square = nn.Parameter(torch.empty(channels, small_kernel, small_kernel, **dd))
        self.norm_horizontal = nn.BatchNorm2d(channels, **dd)
        self.norm_vertical = nn.BatchNorm2d(channels, **dd)
        self.norm_square = nn.BatchNorm2d(channels, **dd)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernels from N(0, 0.02)."""
        for kernel in (self.horizontal, self.vertical, self.square):
            draw_normal(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the three normalised maps."""
        anchor = self.kernel_size // 2
        h, v, s = stripe_conv2d(x, self.horizontal, self.vertical, self.square, anchor, exact=self.exact)
        return self.norm_horizontal(h) + self.norm_vertical(v) + self.norm_square(s)

    @torch.no_grad()
    def fuse(self) -> FusedStripedConv2d:
        """Return the layer for inference: norms and square folded into the stripes."""
        scales, shifts = zip(
            *(batch_norm_affine(n) for n in (self.norm_horizontal, self.norm_vertical, self.norm_square)), strict=True
        )
        margin = (self.kernel_size - self.small_kernel) // 2
        square = self.square * scales[2][:, None, None]
        horizontal = self.horizontal * scales[0][:, None, None] + F.pad(square, (margin, margin))
        return FusedStripedConv2d(horizontal, self.vertical * scales[1][:, None, None], sum(shifts), self.exact)


@register_notrace_module
class FusedStripedConv2d(nn.Module):
    """A wide and a tall depthwise convolution and a bias; :meth:`StripedConv2d.fuse` makes it."""

    def __init__(self, horizontal: Tensor, vertical: Tensor, bias: Tensor, exact: bool = False) -> None:
        super().__init__()
        self.exact = exact
        self.horizontal, self.vertical, self.bias = (nn.Parameter(t) for t in (horizontal, vertical, bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's map."""
        anchor = self.horizontal.shape[2] // 2
        return stripe_conv2d_fused(x, self.horizontal, self.vertical, self.bias, anchor, exact=self.exact)


def stripe_to_slots(kernel: Tensor) -> Tensor:
    """Return a wide stripe as the small kernels of a shift-wise layer with one shuffle and ordered slots.

    Args:
        kernel: ``[C, k, K]``. For a tall stripe transpose both sides: ``stripe_to_slots(kernel.mT).mT``.

    Returns:
        ``[C*n, 1, k, k]`` with ``n = ceil(K / k)``: slot ``i`` holds the ``k`` columns from ``i*k``, zero beyond ``K``.
    """
    channels, k, length = kernel.shape
    n = slot_count(length, k)
    padded = F.pad(kernel, (0, n * k - length))
    return padded.reshape(channels, k, n, k).transpose(1, 2).reshape(channels * n, 1, k, k)


def slots_to_stripe(weight: Tensor, kernel_size: int) -> Tensor:
    """Return the wide stripe ``[C, k, kernel_size]`` that :func:`stripe_to_slots` turned into ``weight``.

    Raises:
        ValueError: the last slots reach further than ``kernel_size``, so that no stripe of that length equals them.
    """
    k = weight.shape[-1]
    n = slot_count(kernel_size, k)
    stripe = weight.reshape(-1, n, k, k).transpose(1, 2).reshape(-1, k, n * k)
    if stripe[..., kernel_size:].any():
        raise ValueError(f"kernel_size: the slots reach further than {kernel_size} columns, want at most that")
    return stripe[..., :kernel_size]


for _function in ("stripe_conv2d", "stripe_conv2d_fused"):
    torch.fx.wrap(_function)  # they ask for shapes and devices, which symbolic tracing has not


class SLaK(StagedNet):
    """SLaK.

    Args:
        in_chans: channels of the image.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: pooling of the head.
        output_stride: only 32 is possible.
        depths: blocks per stage.
        dims: channels per stage.
        kernel_sizes: length of the stripes of each stage.
        small_kernel: thickness of the stripes.
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
        depths: tuple[int, ...] = (3, 3, 9, 3),
        dims: tuple[int, ...] = (124, 249, 499, 998),
        kernel_sizes: tuple[int, ...] = (51, 49, 47, 13),
        small_kernel: int = 5,
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
        for i, (dim, kernel_size) in enumerate(zip(dims, kernel_sizes, strict=True)):
            blocks = [
                ConvNeXtBlock(dim, StripedConv2d(dim, kernel_size, small_kernel, **dd), layer_scale_init, rate, **dd)
                for rate in drop_paths[i]
            ]
            stages.append(Stage(patch_downsample(dims[i - 1], dim, **dd) if i else nn.Identity(), blocks))
        stem = patch_stem(in_chans, dims[0], **dd)
        super().__init__(stem, stages, dims, in_chans, num_classes, global_pool, drop_rate, **dd)


_CONFIG = config(
    first_conv="stem.conv",
    paper_ids="arXiv:2207.03620",
    paper_name="More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity",
    origin_url="https://github.com/VITA-Group/SLaK",
)

default_cfgs = generate_default_cfgs({"slak_tiny.untrained": _CONFIG, "slak_small.untrained": _CONFIG})


@register_model
def slak_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build SLaK-T, with all its weights."""
    return create(SLaK, "slak_tiny", pretrained, **{"depths": (3, 3, 9, 3), **kwargs})


@register_model
def slak_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build SLaK-S, with all its weights."""
    return create(SLaK, "slak_small", pretrained, **{"depths": (3, 3, 27, 3), **kwargs})
