"""The deployed form of :class:`.shiftwise.ShiftwiseNet`'s stages: the same function, fewer and cheaper passes.

- Every batch norm, the layer scale and the response norm's bias are folded into a neighbour.
- In float32 on a CPU, one operator (:func:`sw_ops.pointwise_mlp`) does all that follows the shift-wise convolution.
- The channels are put in the order "processed, then copied" once per stage, so that no block gathers channels.
- Elsewhere maps are overwritten where that is possible, and a few images at a time pass through a stage, so that its
  widest map stays in the cache of a CPU instead of being fetched from memory five times per block.
"""

# Annotations are objects here, not strings, as in _base.py.

import math
from typing import Any

import torch
from timm.models import register_notrace_function
from torch import Tensor, nn

from sw_models.models._reparam import batch_norm_affine
from sw_ops import mlp_is_compiled, pointwise_mlp, stripe_conv2d_fused
from sw_ops.backend import under_transform
from sw_ops.constants import ConstantTensors
from sw_ops.maps import select_channels

_CACHED_BYTES = 8 * 2**20  # of the widest map: fits a cache, and is still large enough for a good matrix product


class FusedShiftwiseBlock(ConstantTensors):
    """A block in evaluation mode.

    Its input and output have the stage's channels in the order "processed, then copied". Where the block processes
    fewer channels than its stage, because all slots of some are 0, ``rep_channels`` are those that it does.
    """

    rep_channels: Tensor | None = None

    def __init__(self, block: Any, order: Tensor) -> None:
        """Take a block in training form, and the order of its stage: int64 ``[dim]``, the channel at each place."""
        super().__init__()
        conv = block.conv.fuse()
        rep = len(conv.rep_channels)
        scale, shift = batch_norm_affine(block.norm)
        self.anchor, self.exact = conv.kernel_size // 2, conv.exact
        self.rep_channels = None
        places = order.argsort()[conv.rep_channels]  # of the processed channels, in the stage's order
        as_the_stage = conv.channel_order is None
        self.horizontal = nn.Parameter(conv.horizontal * scale[places, None, None])
        self.vertical = nn.Parameter(conv.vertical * scale[places, None, None])
        self.bias = nn.Parameter(conv.bias * scale[places] + shift[places])
        if as_the_stage:
            scale, shift = scale[rep:], shift[rep:]
        else:
            self.set_constants(rep_channels=places)
            scale, shift = scale.index_fill(0, places, 1), shift.index_fill(0, places, 0)
        self.ghost_scale, self.ghost_shift = nn.Parameter(scale.clone()), nn.Parameter(shift.clone())
        self.squeeze, self.excite = (
            _linear(conv.weight.flatten(1), conv.bias) for conv in (block.se.fc1, block.se.fc2)
        )
        self.expand = _linear(block.expand.weight.flatten(1), block.expand.bias)
        self.grn_weight, self.grn_eps = block.grn.weight, block.grn.eps
        scale, shift = batch_norm_affine(block.project_norm)
        weight, bias = block.project.weight.flatten(1), block.project.weight.flatten(1) @ block.grn.bias
        weight = (weight * (scale * block.gamma)[:, None])[order]
        self.project = _linear(weight, ((bias * scale + shift) * block.gamma)[order])

    exact = False  # of blocks that were pickled before there was a choice

    def forward(self, x: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Return ``x`` plus the block's branch, ``[B, dim, H, W]``.

        Args:
            x: ``[B, dim, H, W]``.
            scratch: ``[2, B*H*W, hidden]``, memory to work in; without it, new memory is taken.
        """
        scale, shift, places = self.ghost_scale[:, None, None], self.ghost_shift[:, None, None], self.rep_channels
        count, anchor, exact = self.bias.shape[0], self.anchor, self.exact
        compiled = not torch.jit.is_scripting() and self._is_compiled(x)
        if places is None:
            y = stripe_conv2d_fused(x[:, :count], self.horizontal, self.vertical, self.bias, anchor, exact)
            if compiled:
                return self._compiled(x, y, self.ghost_scale, self.ghost_shift)
            y = torch.cat([y, x[:, count:] * scale + shift], dim=1)
        else:
            y = torch.addcmul(shift, x, scale)  # which leaves the channels to be processed as they are
            y = stripe_conv2d_fused(y, self.horizontal, self.vertical, self.bias, anchor, exact, places)
            if compiled:
                return self._compiled(x, y, self.ghost_scale[:0], self.ghost_shift[:0])
        y = y.mul_(self.excite(self.squeeze(y.mean((2, 3))).relu_()).sigmoid_()[:, :, None, None])

        batch, dim, height, width = y.shape
        pixels = y.permute(0, 2, 3, 1).reshape(-1, dim)
        if scratch is None:
            h = torch.ops.aten.gelu_(self.expand(pixels))
            h = h.view(batch, height * width, h.shape[1])
            h = h * self._response(h, None)
        else:
            h = torch.addmm(self.expand.bias, pixels, self.expand.weight.T, out=scratch[0])
            h = torch.ops.aten.gelu_(h).view(batch, height * width, h.shape[1])
            h = h.mul_(self._response(h, scratch[1].view_as(h)))
        y = self.project(h.flatten(0, 1)).view(batch, height, width, dim)
        return y.permute(0, 3, 1, 2).add_(x)

    @torch.jit.unused
    def has_plain_products(self) -> bool:
        """Tell whether the products are layers of plain numbers, and not what a quantization has made of them."""
        return all(type(layer) is nn.Linear for layer in (self.squeeze, self.excite, self.expand, self.project))

    @torch.jit.unused
    def _is_compiled(self, x: Tensor) -> bool:
        return mlp_is_compiled(x) and self.has_plain_products()

    @torch.jit.unused
    def _compiled(self, x: Tensor, processed: Tensor, ghost_scale: Tensor, ghost_shift: Tensor) -> Tensor:
        squeezed = (self.squeeze.weight, self.squeeze.bias, self.excite.weight, self.excite.bias)
        products = (self.expand.weight, self.expand.bias, self.grn_weight, self.project.weight, self.project.bias)
        return pointwise_mlp(x, processed, ghost_scale, ghost_shift, *squeezed, *products, self.grn_eps)

    @torch.jit.unused
    def update_old_state(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Give the block's weights of 0.1.0, whose products were bare parameters, their present names."""
        for name in ("expand", "project"):
            for kind in ("weight", "bias"):
                if f"{prefix}{name}_{kind}" in state_dict:
                    state_dict[f"{prefix}{name}.{kind}"] = state_dict.pop(f"{prefix}{name}_{kind}")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.update_old_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _response(self, h: Tensor, squares: Tensor | None) -> Tensor:
        """Return the factors of the global response norm, ``[B, 1, hidden]``."""
        norm = l2_norm(h, [1], squares)
        response = norm / (norm.mean(dim=2, keepdim=True) + self.grn_eps)
        return (1 + self.grn_weight * response).to(h.dtype)


class FusedShiftwiseStage(ConstantTensors):
    """A stage in evaluation mode, ``[B, in_dim, H, W] -> [B, dim, H/2, W/2]``; the first keeps the resolution."""

    order: Tensor
    places: Tensor

    def __init__(self, stage: Any) -> None:
        super().__init__()
        order = stage.blocks[0].conv.outputs
        self.downsample = stage.downsample
        self.reorders = isinstance(stage.downsample, nn.Identity)
        for layer in stage.downsample.children():
            layer.weight, layer.bias = nn.Parameter(layer.weight[order]), nn.Parameter(layer.bias[order])
        self.blocks = nn.Sequential(*(FusedShiftwiseBlock(block, order) for block in stage.blocks))
        self.set_constants(order=order, places=order.argsort())

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's map, with the channels in their usual order."""
        x = select_channels(x, self.order) if self.reorders else self.downsample(x)
        if torch.jit.is_scripting():
            y = self.blocks(x)
        elif _runs_in_scratch(x) and not mlp_is_compiled(x) and self._has_plain_products():
            y = self._run_in_scratch(x)
        else:
            y = self.blocks(x)
        return select_channels(y, self.places)

    @torch.jit.unused
    def update_old_state(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Make the indices of what ordered channels in 0.1.0: 1x1 convolutions, at the beginning and the end."""
        permutation = state_dict.pop(prefix + "restore.weight", None)
        if permutation is not None:
            if self.reorders:
                state_dict.pop(prefix + "downsample.weight", None)
            state_dict[prefix + "places"] = permutation.flatten(1).argmax(1)
            state_dict[prefix + "order"] = permutation.flatten(1).argmax(0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.update_old_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _has_plain_products(self) -> bool:
        blocks: Any = self.blocks
        return all(block.has_plain_products() for block in blocks)

    def _run_in_scratch(self, x: Tensor) -> Tensor:
        blocks: Any = self.blocks
        batch, _, height, width = x.shape
        widest = max(block.expand.out_features for block in blocks)
        images = max(1, min(batch, _CACHED_BYTES // (widest * height * width * x.element_size())))
        scratch = x.new_empty(2 * images * height * width * widest)
        y = torch.empty_like(x, memory_format=torch.channels_last)
        for part, out in zip(x.split(images), y.split(images), strict=True):
            for block in blocks:
                size = (2, len(part) * height * width, block.expand.out_features)
                part = block(part, scratch[: math.prod(size)].view(size))
            out.copy_(part)
        return y


@register_notrace_function
def l2_norm(x: Tensor, dim: list[int], squares: Tensor | None = None) -> Tensor:
    """Return the L2 norms over ``dim``, which is kept with size 1; in float32 for 16-bit ``x``.

    Args:
        x: of any shape.
        dim: the dimensions summed over.
        squares: memory to work in, like ``x``; without it, new memory is taken.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if torch.jit.is_scripting() or x.device.type != "cpu" or x.dtype == torch.float16:  # whose squares overflow
        return torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=dtype)
    else:  # faster on CPUs; the root of zero would have an infinite gradient
        total = torch.mul(x, x, out=squares).sum(dim, keepdim=True, dtype=dtype)
        return total.clamp_min(torch.finfo(dtype).tiny).sqrt()


def _runs_in_scratch(x: Tensor) -> bool:
    """Tell whether a plain CPU inference is going on: memory that is written again has no place elsewhere."""
    return (
        isinstance(x, Tensor)  # and not what torch.fx traces with
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not under_transform()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return the layer ``[..., C] -> [..., N]`` with this weight ``[N, C]`` and bias ``[N]``."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


for _function in ("stripe_conv2d_fused", "l2_norm", "select_channels"):
    torch.fx.wrap(_function)  # they ask for shapes and devices, which symbolic tracing has not
