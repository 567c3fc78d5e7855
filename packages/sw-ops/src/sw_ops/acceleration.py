"""Depthwise convolutions of any model, computed by this package's kernels."""

# Annotations are objects here, not strings: TorchScript takes those of a module as they are.

from torch import Tensor, nn

from sw_ops.depthwise import depthwise_conv2d

_SMALLEST = 5  # rows or columns of a kernel: smaller ones gain little, and forward alone nothing


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise ``torch.nn.Conv2d`` whose convolution is :func:`sw_ops.depthwise_conv2d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.ndim == 3:  # without a batch
            return depthwise_conv2d(input.unsqueeze(0), weight, bias).squeeze(0)
        return depthwise_conv2d(input, weight, bias)


def accelerate(model: nn.Module, *, undo: bool = False) -> list[str]:
    """Let the kernels of this package compute a model's depthwise convolutions, in place.

    That is every ``torch.nn.Conv2d`` with one kernel per channel of an odd size from 5 on, stride 1, no dilation and
    zeros around the map so that its size stays; at 3x3 PyTorch is about as fast. Parameters, their names, hooks and
    settings are left as they are, so that state dicts and optimizers go on working. Other layers, and maps that are not
    on a CPU, are computed as before.

    Args:
        model: any module.
        undo: make the layers again what they were.

    Returns:
        The names of the layers that were changed.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 13, padding="same", groups=8), torch.nn.GELU())
        >>> accelerate(model)
        ['0']
    """
    before, after = (DepthwiseConv2d, nn.Conv2d) if undo else (nn.Conv2d, DepthwiseConv2d)
    changed = [
        (name, layer) for name, layer in model.named_modules() if type(layer) is before and (undo or _is_suited(layer))
    ]
    for _, layer in changed:
        layer.__class__ = after  # not a new layer: hooks, and whoever else holds this one, would miss it
    return [name for name, _ in changed]


def _is_suited(layer: nn.Conv2d) -> bool:
    return (
        max(layer.kernel_size) >= _SMALLEST
        and layer.groups == layer.in_channels == layer.out_channels
        and layer.stride == (1, 1)
        and layer.dilation == (1, 1)
        and all(size % 2 for size in layer.kernel_size)
        and layer.padding in ("same", tuple(size // 2 for size in layer.kernel_size))
        and layer.padding_mode == "zeros"
    )
