"""What the layers read of a map: chosen channels, every so many positions."""

# Annotations are objects here, not strings: TorchScript compiles these functions.

import torch
from torch import Tensor


def check_input(x: Tensor, channels: int) -> None:
    """Refuse what is no floating-point map ``[B, channels, H, W]``."""
    if x.ndim != 4 or x.shape[1] != channels:
        shape = str(x.shape) if torch.jit.is_scripting() else str(tuple(x.shape))
        raise ValueError(f"x: got shape {shape}, want {channels} channels in [batch, channels, height, width]")
    if not x.is_floating_point():
        raise TypeError(f"x: got {x.dtype}, want a floating-point tensor")


def select_channels(x: Tensor, index: Tensor) -> Tensor:
    """Return ``x[:, index]``, keeping channels-last memory channels-last (``index_select`` alone would not)."""
    index = index.to(x.device)  # where tools that spread a model over devices leave constants behind
    if x.stride(1) != 1:
        return x.index_select(1, index)
    pixels = x.permute(0, 2, 3, 1)
    if x.device.type == "cpu" and not _exporting_to_onnx():  # up to eight times as fast as the other, backwards too
        batch, height, width = pixels.shape[0], pixels.shape[1], pixels.shape[2]
        return pixels.gather(3, index.expand(batch, height, width, index.shape[0])).permute(0, 3, 1, 2)
    return pixels.index_select(3, index).permute(0, 3, 1, 2)


def _exporting_to_onnx() -> bool:
    """Tell whether the map is ONNX's to be, which has a plain operator for an index."""
    if torch.jit.is_scripting():
        return False
    else:
        return torch.onnx.is_in_onnx_export()


def put_channels(x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Return ``x`` with ``values`` in the place of ``x[:, index]``."""
    index, values = index.to(x.device), values.to(x.dtype)  # autocast makes them 16 bits
    if x.stride(1) == 1 and x.device.type == "cpu":  # as above
        pixels = x.permute(0, 2, 3, 1)
        batch, height, width = pixels.shape[0], pixels.shape[1], pixels.shape[2]
        places = index.expand(batch, height, width, index.shape[0])
        return pixels.scatter(3, places, values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return x.index_copy(1, index, values)


def strided(x: Tensor, stride: int) -> Tensor:
    """Return every ``stride``-th position, in both directions."""
    return x if stride == 1 else x[:, :, ::stride, ::stride]
