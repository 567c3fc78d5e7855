"""The shift-wise layer, in its training form and in the fused form for inference."""

# Annotations are objects here, not strings: TorchScript and torch.fx take those of a module as they are.

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_ops.assembly import assemble_stripes, stripes_of_slots
from sw_ops.constants import ConstantTensors
from sw_ops.stripe import stripe_conv2d, stripe_conv2d_fused
from sw_ops.table import ChannelSplit, ShiftTable, slot_count


def shiftwise_conv2d(
    x: Tensor, weight: Tensor, table: ShiftTable, *, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the shift-wise operator: small convolutions shifted apart and added, as three stripe convolutions.

    Equal, up to rounding, to ``shift_add(conv2d(x, weight, padding=k-1, groups=C), table, (H, W))``.

    Args:
        x: ``[B, C, H, W]``, floating point.
        weight: ``[C*n, 1, k, k]``, the small kernels.
        table: which slot stands where.
        exact: as for :func:`sw_ops.stripe_conv2d`.

    Returns:
        The horizontal, the vertical and the identity map, each ``[B, C, H, W]``.
    """
    return stripe_conv2d(x, *assemble_stripes(weight, table), anchor=table.kernel_size // 2, exact=exact)


class SmallKernels(nn.ParameterList):
    """The parallel sets of small kernels."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw from N(0, 0.02)."""
        for weight in self:
            # 16-bit weights are drawn in float32: 8 bits are few for the uniform number behind a normal one.
            drawn = torch.empty_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
            weight.copy_(drawn.normal_(0, 0.02))


class ShiftwiseConv2d(ConstantTensors):
    """Shift-wise convolution: the effect of a large depthwise kernel from small ones (arXiv 2401.12736, section 3).

    ``[B, C, H, W] -> [B, C, H, W]``. The "rep" channels pass through the operator; each of its three maps has a batch
    norm, and their sum and the input are added. The "ghost" channels are copied. The output is ``cat([rep, ghost])``.

    Without batch statistics (evaluation, or frozen norms) the norms and the residual are folded into the stripes and
    a single map is computed.

    With ``out_channels`` or a ``stride`` it stands where a dense convolution does: the maps are read at every
    ``stride``-th position, and a pointwise convolution mixes the channels, ``[B, C, H, W] -> [B, out_channels,
    ceil(H / stride), ceil(W / stride)]``.

    Args:
        channels: number of channels ``C`` of the input.
        kernel_size: width ``M`` of the kernel whose reach the layer has.
        small_kernel: width ``k`` of the small kernels, odd.
        out_channels: number of channels of the output; ``None`` is ``C``, without a pointwise convolution.
        stride: distance in pixels between the positions that are put out.
        ghost_ratio: share of the channels that is copied.
        n_path: parallel sets of small kernels, summed; they train differently under sparsity, and merge when fused.
        n_rep: shuffles of the slots.
        split: which channels are processed; the published choice by default.
        table: the shuffles; the published ones by default.
        exact: compute without the fast algorithm, see :func:`sw_ops.stripe_conv2d`. An attribute too, which may be set
            at any time; the fused form keeps it.
        device: where the parameters live.
        dtype: of the parameters.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        small_kernel: int = 3,
        *,
        out_channels: int | None = None,
        stride: int = 1,
        ghost_ratio: float = 0.23,
        n_path: int = 2,
        n_rep: int = 4,
        split: ChannelSplit | None = None,
        table: ShiftTable | None = None,
        exact: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        n = slot_count(kernel_size, small_kernel)
        if n_path < 1:
            raise ValueError(f"n_path: got {n_path}, want at least 1")
        if n_rep < 1:
            raise ValueError(f"n_rep: got {n_rep}, want at least 1")
        if stride < 1:
            raise ValueError(f"stride: got {stride}, want at least 1")
        if out_channels is not None and out_channels < 1:
            raise ValueError(f"out_channels: got {out_channels}, want at least 1, or None")
        split = split or ChannelSplit.published(channels, ghost_ratio)
        rep = len(split.rep)
        table = table or ShiftTable.shuffled(rep, kernel_size, small_kernel, n_rep)
        if (table.channels, table.kernel_size, table.small_kernel) != (rep, kernel_size, small_kernel):
            raise ValueError(
                f"table: got one for {table.channels} channels and kernels ({table.kernel_size}, {table.small_kernel}),"
                f" want {rep} channels and ({kernel_size}, {small_kernel})"
            )
        self.channels, self.kernel_size, self.small_kernel = channels, kernel_size, small_kernel
        self.exact, self.stride = exact, stride

        self.weights = SmallKernels(
            nn.Parameter(torch.empty(rep * n, 1, small_kernel, small_kernel, device=device, dtype=dtype))
            for _ in range(n_path)
        )
        self.norm_horizontal = nn.BatchNorm2d(rep, device=device, dtype=dtype)
        self.norm_vertical = nn.BatchNorm2d(rep, device=device, dtype=dtype)
        self.norm_identity = nn.BatchNorm2d(rep, device=device, dtype=dtype)
        self.pointwise = _pointwise(channels, out_channels, device, dtype)
        self.set_constants(
            slots_horizontal=table.horizontal,
            slots_vertical=table.vertical,
            slots_identity=table.identity,
            rep_channels=split.rep,
            ghost_channels=split.ghost,
        )
        self.reset_parameters()

    slots_horizontal: Tensor
    slots_vertical: Tensor
    slots_identity: Tensor
    rep_channels: Tensor
    ghost_channels: Tensor
    exact, stride = False, 1  # of layers that were pickled before there was a choice

    @property
    @torch.jit.unused
    def out_channels(self) -> int:
        """Number of channels of the output."""
        return self.pointwise.out_channels if isinstance(self.pointwise, nn.Conv2d) else self.channels

    def reset_parameters(self) -> None:
        """Draw the small kernels from N(0, 0.02), start the norms as identities, restore the tables."""
        self.weights.reset_parameters()
        self.reset_constants()
        for norm in (self.norm_horizontal, self.norm_vertical, self.norm_identity):
            norm.reset_parameters()
        if isinstance(self.pointwise, nn.Conv2d):
            self.pointwise.reset_parameters()

    @property
    @torch.jit.unused
    def table(self) -> ShiftTable:
        """The shuffles that the layer holds."""
        slots = (self.slots_horizontal, self.slots_vertical, self.slots_identity)
        return ShiftTable(self.kernel_size, self.small_kernel, *slots)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for ``[B, C, H, W]``."""
        _check_input(x, self.channels)
        rep, ghost = _channels(x, self.rep_channels), _channels(_strided(x, self.stride), self.ghost_channels)
        if self._uses_batch_statistics():
            horizontal, vertical, square = self._stripes()
            h, v, s = stripe_conv2d(rep, horizontal, vertical, square, self.kernel_size // 2, exact=self.exact)
            normed = (
                self.norm_horizontal(_strided(h, self.stride))
                + self.norm_vertical(_strided(v, self.stride))
                + self.norm_identity(_strided(s, self.stride))
            )
            # What `cat` passes back is a slice, on which batch norms are slow; what a product passes back is not.
            rep = normed * 1 + _strided(rep, self.stride)
        else:
            horizontal, vertical, bias = self._folded()
            rep = stripe_conv2d_fused(rep, horizontal, vertical, bias, self.kernel_size // 2, exact=self.exact)
            rep = _strided(rep, self.stride)
        return self.pointwise(torch.cat([rep, ghost], dim=1))

    def fuse(self) -> "FusedShiftwiseConv2d":
        """Return the layer for inference: one stripe pair and a bias, equal to this layer in evaluation mode."""
        with torch.no_grad():
            horizontal, vertical, bias = self._folded()
        fused = FusedShiftwiseConv2d(
            self.channels,
            self.kernel_size,
            self.small_kernel,
            out_channels=self.out_channels if isinstance(self.pointwise, nn.Conv2d) else None,
            stride=self.stride,
            split=ChannelSplit(self.rep_channels, self.ghost_channels),
            exact=self.exact,
            device=bias.device,
            dtype=bias.dtype,
        )
        with torch.no_grad():
            fused.horizontal.copy_(horizontal)
            fused.vertical.copy_(vertical)
            fused.bias.copy_(bias)
        fused.pointwise.load_state_dict(self.pointwise.state_dict())
        return fused.train(self.training)

    def _uses_batch_statistics(self) -> bool:
        a, b, c = self.norm_horizontal, self.norm_vertical, self.norm_identity
        tracked = a.running_mean is not None and b.running_mean is not None and c.running_mean is not None
        return a.training or b.training or c.training or not tracked

    def _stripes(self) -> tuple[Tensor, Tensor, Tensor]:
        weight = self.weights[0]
        for path, other in enumerate(self.weights):
            if path > 0:
                weight = weight + other
        return stripes_of_slots(weight, self.slots_horizontal, self.slots_vertical, self.slots_identity)

    def _folded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fold the norms, the identity path and the residual into one pair of stripes and a bias."""
        horizontal, vertical, square = self._stripes()
        norm = self.norm_horizontal
        scale_a, shift_a = _affine(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
        norm = self.norm_vertical
        scale_b, shift_b = _affine(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
        norm = self.norm_identity
        scale_c, shift_c = _affine(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
        margin = self.small_kernel // 2
        residual = F.pad(torch.ones_like(square[:, :1, :1]), [margin, margin, margin, margin])
        before = self.kernel_size // 2 - margin
        after = horizontal.shape[2] - self.small_kernel - before
        middle = F.pad(square * scale_c[:, None, None] + residual, [before, after])
        horizontal = horizontal * scale_a[:, None, None] + middle
        return horizontal, vertical * scale_b[:, None, None], shift_a + shift_b + shift_c

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._modules.setdefault("pointwise", nn.Identity())  # of layers that were pickled before there was a choice

    def extra_repr(self) -> str:
        """Describe the layer in ``print``."""
        return (
            f"{self.channels}, kernel_size={self.kernel_size}, small_kernel={self.small_kernel},"
            f" rep={len(self.rep_channels)}, n_path={len(self.weights)}, n_rep={self.slots_identity.shape[1]}"
            f"{_stride_and_exact(self.stride, self.exact)}"
        )


class FusedShiftwiseConv2d(ConstantTensors):
    """A shift-wise layer for inference; :meth:`ShiftwiseConv2d.fuse` makes it.

    Constructed directly it holds zeros, ready for ``load_state_dict``. Arguments as for :class:`ShiftwiseConv2d`.

    Example:
        >>> FusedShiftwiseConv2d(8, 13, 3)(torch.ones(1, 8, 16, 16)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        small_kernel: int = 3,
        *,
        out_channels: int | None = None,
        stride: int = 1,
        ghost_ratio: float = 0.23,
        split: ChannelSplit | None = None,
        exact: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        length = slot_count(kernel_size, small_kernel) * small_kernel
        split = split or ChannelSplit.published(channels, ghost_ratio)
        rep = len(split.rep)
        self.channels, self.kernel_size, self.small_kernel = channels, kernel_size, small_kernel
        self.exact, self.stride = exact, stride
        self.horizontal = nn.Parameter(torch.zeros(rep, small_kernel, length, device=device, dtype=dtype))
        self.vertical = nn.Parameter(torch.zeros(rep, length, small_kernel, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(rep, device=device, dtype=dtype))
        self.pointwise = _pointwise(channels, out_channels, device, dtype)
        for parameter in self.pointwise.parameters():
            nn.init.zeros_(parameter)
        self.set_constants(rep_channels=split.rep, ghost_channels=split.ghost)

    def reset_parameters(self) -> None:
        """Make the layer what it was constructed as: stripes of zeros, and its channels."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.reset_constants()

    rep_channels: Tensor
    ghost_channels: Tensor
    exact, stride = False, 1  # as above

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for ``[B, C, H, W]``."""
        _check_input(x, self.channels)
        anchor, rep = self.kernel_size // 2, _channels(x, self.rep_channels)
        rep = stripe_conv2d_fused(rep, self.horizontal, self.vertical, self.bias, anchor, exact=self.exact)
        ghost = _channels(_strided(x, self.stride), self.ghost_channels)
        return self.pointwise(torch.cat([_strided(rep, self.stride), ghost], dim=1))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._modules.setdefault("pointwise", nn.Identity())  # as above

    def extra_repr(self) -> str:
        """Describe the layer in ``print``."""
        sizes = f"kernel_size={self.kernel_size}, small_kernel={self.small_kernel}"
        return f"{self.channels}, {sizes}, rep={len(self.rep_channels)}{_stride_and_exact(self.stride, self.exact)}"


def reparameterize(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` in which every shift-wise layer is in its fused form; ``module`` is left alone.

    Example:
        >>> reparameterize(torch.nn.Sequential(ShiftwiseConv2d(8, 13, 3)))[0].__class__.__name__
        'FusedShiftwiseConv2d'
    """
    if isinstance(module, ShiftwiseConv2d):
        return module.fuse()
    module = copy.deepcopy(module)
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, ShiftwiseConv2d)]
    for name, layer in layers:
        module.set_submodule(name, layer.fuse())
    return module


def _check_input(x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        shape = str(x.shape) if torch.jit.is_scripting() else str(tuple(x.shape))
        raise ValueError(f"x: got shape {shape}, want {channels} channels in [batch, channels, height, width]")
    if not x.is_floating_point():
        raise TypeError(f"x: got {x.dtype}, want a floating-point tensor")


def _pointwise(
    channels: int, out_channels: int | None, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Module:
    if out_channels is None:
        return nn.Identity()
    return nn.Conv2d(channels, out_channels, 1, bias=False, device=device, dtype=dtype)


def _stride_and_exact(stride: int, exact: bool) -> str:
    return f"{f', stride={stride}' if stride > 1 else ''}{', exact=True' if exact else ''}"


def _strided(x: Tensor, stride: int) -> Tensor:
    return x if stride == 1 else x[:, :, ::stride, ::stride]


def _channels(x: Tensor, index: Tensor) -> Tensor:
    """Select channels, keeping channels-last memory channels-last (``index_select`` alone would not)."""
    index = index.to(x.device)  # where tools that spread a model over devices leave constants behind
    if x.stride(1) == 1:
        return x.permute(0, 2, 3, 1).index_select(3, index).permute(0, 3, 1, 2)
    return x.index_select(1, index)


def _affine(
    mean: Tensor | None, variance: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch norm in evaluation mode."""
    assert mean is not None
    assert variance is not None
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = weight * scale
    shift = -mean * scale
    return scale, shift if bias is None else bias + shift


# torch.fx cannot look inside these, for they ask for shapes and devices; of a layer it sees the rest.
for _function in ("_check_input", "_channels", "_affine", "stripes_of_slots", "stripe_conv2d", "stripe_conv2d_fused"):
    torch.fx.wrap(_function)
