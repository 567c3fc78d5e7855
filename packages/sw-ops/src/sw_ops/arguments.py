"""What every stripe operator checks before anything is read from memory."""

from __future__ import annotations

import torch
from torch import Tensor


def check_maps(**maps: Tensor) -> None:
    """Check that all maps are ``[B, C, H, W]``, floating point, and alike in shape, dtype and device.

    Raises:
        ValueError: for a shape.
        TypeError: for a dtype or device.
    """
    (first, like), *others = maps.items()
    shape, dtype = like.shape, like.dtype
    if len(shape) != 4:
        raise ValueError(f"{first}: got shape {tuple(shape)}, want [batch, channels, height, width]")
    if not dtype.is_floating_point:
        raise TypeError(f"{first}: got {dtype}, want a floating-point tensor")
    device = like.device
    for name, tensor in others:
        if tensor.shape != shape:
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, want {tuple(shape)} as {first} has")
        if tensor.dtype != dtype or tensor.device != device:
            raise _unlike(name, tensor, first, like)


def check_kernels(
    x: Tensor,
    horizontal: Tensor,
    vertical: Tensor,
    anchor: int,
    square: Tensor | None = None,
    bias: Tensor | None = None,
    channels: Tensor | None = None,
    order: Tensor | None = None,
) -> None:
    """Check kernels, and a bias where there is one, against the map ``x`` that they meet, or chosen channels of it.

    Raises:
        ValueError: for a shape or the anchor.
        TypeError: for a dtype or device that is not that of ``x``.
    """
    # Of small maps the checks are a part of the time that can be measured: each property is asked for once.
    dtype, device, wide = x.dtype, x.device, horizontal.shape
    count = x.shape[1] if channels is None else _check_numbers("channels", channels, x)
    if order is not None and (channels is None or _check_numbers("order", order, x) != x.shape[1]):
        raise ValueError(f"order: got {len(order)} numbers, want {x.shape[1]}, and channels with it")
    if len(wide) != 3 or wide[0] != count:
        of_what = "x has" if channels is None else "there are"
        raise ValueError(f"horizontal: got shape {tuple(wide)}, want [{count}, k, L] as {of_what} channels")
    _, thickness, length = wide
    if horizontal.dtype != dtype or horizontal.device != device:
        raise _unlike("horizontal", horizontal, "x", x)
    if vertical.shape != (count, length, thickness) or vertical.dtype != dtype or vertical.device != device:
        raise _wrong("vertical", vertical, (count, length, thickness), x)
    check_stripe(length, thickness, anchor)
    if square is not None and (
        square.shape != (count, thickness, thickness) or square.dtype != dtype or square.device != device
    ):
        raise _wrong("square", square, (count, thickness, thickness), x)
    if bias is not None and (bias.shape != (count,) or bias.dtype != dtype or bias.device != device):
        raise _wrong("bias", bias, (count,), x)


def check_stripe(length: int, thickness: int, anchor: int) -> None:
    """Check the sizes of a stripe.

    Raises:
        ValueError: for an even or too large thickness, or an anchor outside of the stripe.
    """
    if thickness % 2 == 0 or not 0 < thickness <= length:
        raise ValueError(f"horizontal: got k = {thickness}, L = {length}, want [C, k, L] with an odd k <= L")
    if not 0 <= anchor < length:
        raise ValueError(f"anchor: got {anchor}, want one of the {length} taps of the stripe")


def check_depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check a map and the dense kernels, one per channel, that it meets.

    Raises:
        ValueError: for a shape.
        TypeError: for a dtype or device that is not that of ``x``.
    """
    check_maps(x=x)
    channels, shape = x.shape[1], weight.shape
    if len(shape) != 4 or shape[0] != channels or shape[1] != 1:
        raise ValueError(f"weight: got shape {tuple(shape)}, want [{channels}, 1, kh, kw] as x has channels")
    check_kernel_size(*shape[2:])
    if weight.dtype != x.dtype or weight.device != x.device:
        raise _unlike("weight", weight, "x", x)
    if bias is None:
        return
    if bias.shape != (channels,):
        raise ValueError(f"bias: got shape {tuple(bias.shape)}, want ({channels},) as x has channels")
    if bias.dtype != x.dtype or bias.device != x.device:
        raise _unlike("bias", bias, "x", x)


def check_kernel_size(rows: int, columns: int) -> None:
    """Check the sizes of a dense kernel.

    Raises:
        ValueError: for an even one, or none.
    """
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"weight: got a {rows}x{columns} kernel, want odd numbers of rows and columns")


def _check_numbers(name: str, numbers: Tensor, x: Tensor) -> int:
    """Return how many numbers of channels of ``x`` there are."""
    if numbers.dtype != torch.int64 or numbers.device != x.device:
        got, want = f"{numbers.dtype} on {numbers.device}", f"torch.int64 on {x.device}"
        raise TypeError(f"{name}: got {got}, want {want}")
    if numbers.ndim != 1:
        raise ValueError(f"{name}: got shape {tuple(numbers.shape)}, want one dimension")
    return numbers.shape[0]


def _wrong(name: str, tensor: Tensor, shape: tuple[int, ...], x: Tensor) -> Exception:
    if tensor.shape != shape:
        return ValueError(f"{name}: got shape {tuple(tensor.shape)}, want {shape} as x and horizontal have it")
    return _unlike(name, tensor, "x", x)


def _unlike(name: str, tensor: Tensor, first: str, like: Tensor) -> Exception:
    got, want = f"{tensor.dtype} on {tensor.device}", f"{like.dtype} on {like.device}"
    return TypeError(f"{name}: got {got}, want {want} as {first} is")


def check_mlp(x: Tensor, processed: Tensor, *rest: Tensor) -> None:
    """Check the tensors of :func:`sw_ops.pointwise_mlp`, in the order of its arguments.

    Raises:
        ValueError: for a shape.
        TypeError: for a dtype or device that is not that of ``x``.
    """
    shape, dtype, device = x.shape, x.dtype, x.device
    if len(shape) != 4:
        raise ValueError(f"x: got shape {tuple(shape)}, want [batch, channels, height, width]")
    if not dtype.is_floating_point:
        raise TypeError(f"x: got {dtype}, want a floating-point tensor")
    batch, channels, height, width = shape
    found = processed.shape
    if len(found) != 4 or (found[0], *found[2:]) != (batch, height, width) or not 0 < found[1] <= channels:
        want = f"[{batch}, up to {channels}, {height}, {width}]"
        raise ValueError(f"processed: got shape {tuple(found)}, want {want} as x has it")
    ghosts, squeezed, hidden = channels - found[1], len(rest[3]), len(rest[7])
    wanted = (
        ("ghost_scale", (ghosts,)),
        ("ghost_shift", (ghosts,)),
        ("squeeze", (squeezed, channels)),
        ("squeeze_bias", (squeezed,)),
        ("excite", (channels, squeezed)),
        ("excite_bias", (channels,)),
        ("expand", (hidden, channels)),
        ("expand_bias", (hidden,)),
        ("response", (hidden,)),
        ("project", (channels, hidden)),
        ("project_bias", (channels,)),
    )
    for (name, want_shape), tensor in zip((("processed", found), *wanted), (processed, *rest), strict=True):
        if tensor.shape != want_shape:
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, want {want_shape} as the others have it")
        if tensor.dtype != dtype or tensor.device != device:
            raise _unlike(name, tensor, "x", x)


def check_nearest(points: Tensor, memory: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Check the tensors of :func:`sw_ops.nearest_distances`.

    Raises:
        ValueError: for a shape.
        TypeError: for a dtype or device.
    """
    for name, tensor, want in (
        ("points", points, "[height, width, K]"),
        ("memory", memory, "[columns, rows, K, N]"),
        ("rows", rows, "[strips, J]"),
        ("columns", columns, "[width, I]"),
    ):
        if tensor.ndim != want.count(",") + 1:
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, want {want}")
    (height, width, depth), (*places, known, count) = points.shape, memory.shape
    if known != depth or count % 16:
        want = f"[columns, rows, {depth}, a multiple of 16] as points has it"
        raise ValueError(f"memory: got shape {tuple(memory.shape)}, want {want}")
    if squares.shape != (*places, count):
        raise ValueError(f"squares: got shape {tuple(squares.shape)}, want {(*places, count)} as memory has it")
    if height and not len(rows):
        raise ValueError(f"rows: got shape {tuple(rows.shape)}, want [strips, J] with a strip or more")
    if len(columns) != width:
        raise ValueError(f"columns: got shape {tuple(columns.shape)}, want [{width}, I] as points has it")
    wanted = (("points", points, torch.float32), ("memory", memory, torch.float16), ("squares", squares, torch.float32))
    for name, tensor, dtype in (*wanted, ("rows", rows, torch.int64), ("columns", columns, torch.int64)):
        if tensor.dtype != dtype or tensor.device != points.device:
            got, want = f"{tensor.dtype} on {tensor.device}", f"{dtype} on {points.device}"
            raise TypeError(f"{name}: got {got}, want {want}")


def check_numbers(end: int, **numbers: Tensor) -> None:
    """Raise ``IndexError`` unless all numbers in the named tensor are from 0 to below ``end``."""
    for name, tensor in numbers.items():
        wrong = tensor[(tensor < 0) | (tensor >= end)]
        if len(wrong):
            raise IndexError(f"{name}: got {int(wrong[0])}, want numbers of the memory's {end}, from 0 on")


def check_response_norm(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Check a map and the parameters of its response norm, which may be of another floating-point dtype.

    Raises:
        ValueError: for a shape.
        TypeError: for a dtype or device.
    """
    check_maps(x=x)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor.shape != x.shape[1:2]:
            raise ValueError(f"{name}: got shape {tuple(tensor.shape)}, want ({x.shape[1]},) as x has channels")
        if not tensor.dtype.is_floating_point or tensor.device != x.device:
            raise _unlike(name, tensor, "x", x)
