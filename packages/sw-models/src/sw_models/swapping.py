"""Shift-wise layers in the place of the dense 3x3 convolutions of a network that was not made for them."""

from __future__ import annotations

from torch import nn

from sw_ops import ShiftwiseConv2d


def swap(
    model: nn.Module,
    kernel_size: int,
    *,
    small_kernel: int = 3,
    ghost_ratio: float = 0.23,
    n_path: int = 2,
    n_rep: int = 4,
) -> nn.Module:
    """Replace the dense 3x3 convolutions of a network, in place, by shift-wise layers that reach further.

    Each becomes a :class:`sw_ops.ShiftwiseConv2d` with the same numbers of channels, stride, device and dtype. The
    first convolution, which reads the image, and convolutions that are grouped or dilated are left alone. The new
    weights are drawn: the network has to be trained.

    Args:
        model: any network, such as a ResNet of timm's or torchvision's.
        kernel_size: width of the kernel whose reach the layers have.
        small_kernel: as for :class:`sw_ops.ShiftwiseConv2d`, and so are the others.
        ghost_ratio: share of the channels that is copied.
        n_path: parallel sets of small kernels.
        n_rep: shuffles of the slots.

    Returns:
        ``model``. For inference, ``sw_ops.reparameterize`` makes one with fused layers of it.

    Raises:
        ValueError: there is nothing to replace, or an argument does not fit.

    Example:
        >>> model = swap(timm.create_model("resnet18", num_classes=10), kernel_size=13)
    """
    convolutions = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    replaceable = [(name, layer) for name, layer in convolutions[1:] if _is_dense_3x3(layer)]
    if not replaceable:
        raise ValueError(f"model: got {type(model).__name__} without a dense 3x3 convolution after the first")
    for name, old in replaceable:
        new = ShiftwiseConv2d(
            old.in_channels,
            kernel_size,
            small_kernel,
            out_channels=old.out_channels,
            stride=old.stride[0],
            ghost_ratio=ghost_ratio,
            n_path=n_path,
            n_rep=n_rep,
            device=old.weight.device,
            dtype=old.weight.dtype,
        )
        model.set_submodule(name, new.train(old.training))
    return model


def _is_dense_3x3(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size == (3, 3)
        and layer.stride[0] == layer.stride[1]
        and layer.padding == (1, 1)
        and layer.padding_mode == "zeros"
        and layer.dilation == (1, 1)
        and layer.groups == 1
    )
