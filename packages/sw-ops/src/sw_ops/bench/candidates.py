"""Measures the operator beside a dense depthwise 13x13 convolution and the published algorithm, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sw_ops import reference
from sw_ops.assembly import Stripes, assemble_stripes
from sw_ops.backend import _C
from sw_ops.bench import fft
from sw_ops.bench.timing import Run, take_turns
from sw_ops.depthwise import depthwise_conv2d
from sw_ops.shift_add import shift_add
from sw_ops.stripe import stripe_conv2d, stripe_conv2d_fused
from sw_ops.table import ShiftTable, slot_count

DENSE_KERNEL = 13  # the kernel of UniRepLKNet (arXiv 2311.15599), the rival in speed
_BACKWARD = " + backward"
FUSED, EXACT, THREE_MAPS = "fused", "fused, exact", "three maps"
TRAINING = THREE_MAPS + _BACKWARD
BY_TORCH = "fused, by PyTorch"
DENSE, COPY, PUBLISHED = f"dense {DENSE_KERNEL}x{DENSE_KERNEL}", "copy of the input", "published algorithm"
# Depthwise convolutions with dense kernels: by whom, how large, and whether with the gradients to map and kernels.
_DENSE = {
    DENSE: ("PyTorch", DENSE_KERNEL, False),
    f"depthwise_conv2d {DENSE_KERNEL}x{DENSE_KERNEL}": ("sw_ops", DENSE_KERNEL, False),
    DENSE + _BACKWARD: ("PyTorch", DENSE_KERNEL, True),
    f"depthwise_conv2d {DENSE_KERNEL}x{DENSE_KERNEL}{_BACKWARD}": ("sw_ops", DENSE_KERNEL, True),
    "dense 7x7": ("PyTorch", 7, False),
    "depthwise_conv2d 7x7": ("sw_ops", 7, False),
}
BY_FFT = "dense kernel of the same reach, by FFT"
_CONTENDERS = (FUSED, EXACT, THREE_MAPS, TRAINING, BY_TORCH, BY_FFT, *_DENSE, COPY)
_PEAK = ("peak", "")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Shape:
    """One convolution to measure: ``channels`` maps of ``size x size`` and a kernel of ``kernel_size``."""

    channels: int
    size: int
    kernel_size: int
    small_kernel: int = 3

    def __str__(self) -> str:
        return f"{self.channels}x{self.size}x{self.size} M={self.kernel_size}"


# The four stages of shiftwise_tiny at 224 pixels, without the channels that are only copied.
TINY_STAGES = (Shape(60, 56, 51), Shape(122, 28, 49), Shape(246, 14, 47), Shape(492, 7, 13))


@dataclass(frozen=True)
class Row:
    """One contender on one shape.

    Attributes:
        milliseconds: median over the repeats.
        gmacs: multiply-adds inside the map per second, in units of 1e9; only where the contender's are the operator's.
        of_peak: ``gmacs`` as a share of what the CPU can do with multiply-adds alone, measured in the same turns; more
            than 1 is possible, for Winograd's algorithm makes do with half of them.
        of_dense: time in units of the dense 13x13 convolution in its faster layout, of its training step when training.
    """

    shape: str
    contender: str
    layout: str
    milliseconds: float
    gmacs: float | None
    of_peak: float | None
    of_dense: float


def measure(
    shapes: Iterable[Shape],
    *,
    batch: int = 8,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    repeats: int = 9,
    published: bool = True,
    train: bool = False,
) -> Iterator[list[Row]]:
    """Measure every contender on every shape, in turns; yields the rows of each shape as soon as they are known.

    On the CPU each contender has a process of its own. With ``train``, those are measured that compute gradients, too.
    """
    left_out = set() if device.type == "cpu" else {EXACT}  # GPUs' kernels are exact anyway
    if dtype != torch.float32:
        left_out.add(BY_FFT)
    names = [name for name in _CONTENDERS if name not in left_out and (not train or name.endswith(_BACKWARD))]
    contenders = [(name, layout) for layout in LAYOUTS for name in names]
    if published and not train:
        contenders.append((PUBLISHED, "contiguous"))
    on_cpu = device.type == "cpu"
    for shape in shapes:
        makes = {key: partial(_make, *key, shape, batch, device, dtype) for key in contenders}
        if peak_known := on_cpu and _C is not None:
            makes[_PEAK] = partial(_make_peak)
        taken: dict[tuple[str, str], list[float]] = {}
        for _, taken in take_turns(makes, repeats, alone=on_cpu):  # noqa: B007 - the last one counts
            pass
        seconds = {key: median(each) for key, each in taken.items()}
        peak = _multiply_adds() / seconds.pop(_PEAK) if peak_known else None
        dense = min(s for (name, _), s in seconds.items() if name == (DENSE + _BACKWARD if train else DENSE))
        macs = multiply_adds(shape) * batch
        yield [
            Row(
                str(shape),
                name,
                layout,
                milliseconds=s * 1e3,
                gmacs=macs / s / 1e9 if name == FUSED else None,
                of_peak=macs / s / peak if peak and name == FUSED else None,
                of_dense=s / dense,
            )
            for (name, layout), s in seconds.items()
        ]


def _make_peak() -> Run:
    return _multiply_adds


def _multiply_adds() -> int:
    """Run nothing but multiply-adds on all threads for a moment; return how many."""
    return _C.cpu.multiply_adds(torch.get_num_threads())


def multiply_adds(shape: Shape) -> int:
    """Count the taps of both stripes that fall inside the map, over all pixels and channels of one image."""
    k = shape.small_kernel
    length = slot_count(shape.kernel_size, k) * k

    def inside(taps: int, anchor: int) -> int:
        return sum(0 <= q + m - anchor < shape.size for q in range(shape.size) for m in range(taps))

    return 2 * shape.channels * inside(length, shape.kernel_size // 2) * inside(k, k // 2)


def summary(rows: list[Row]) -> dict[str, float]:
    """Sum each contender over the shapes, in its faster layout for each, in units of the dense 13x13 convolution."""
    best: dict[str, dict[str, float]] = {}
    for row in rows:
        shapes = best.setdefault(row.contender, {})
        shapes[row.shape] = min(row.milliseconds, shapes.get(row.shape, float("inf")))
    dense = sum(best[DENSE if DENSE in best else DENSE + _BACKWARD].values())
    return {contender: sum(shapes.values()) / dense for contender, shapes in best.items()}


def as_json(rows: list[Row], device: torch.device, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    """Return what ``sw-ops bench --json`` writes."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": batch,
        "rows": [asdict(row) for row in rows],
        "of_dense": summary(rows),
    }


def _make(contender: str, layout: str, shape: Shape, batch: int, device: torch.device, dtype: torch.dtype) -> Run:
    """Return the function to time, with inputs of its own."""
    generator = torch.Generator().manual_seed(0)
    c, k, anchor = shape.channels, shape.small_kernel, shape.kernel_size // 2

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator).to(device, dtype)

    x = random(batch, c, shape.size, shape.size).contiguous(memory_format=LAYOUTS[layout])
    if contender == COPY:
        return x.clone
    if contender in _DENSE:
        return _make_dense(contender, x, random)
    if contender == BY_FFT:
        spectrum = fft.spectrum_of(random(c, 1, shape.kernel_size, shape.kernel_size), shape.size)
        return torch.no_grad()(lambda: fft.convolve(x, spectrum, shape.kernel_size))

    table = ShiftTable.shuffled(c, shape.kernel_size, k, n_rep=4)
    small = random(c * table.slots, 1, k, k)
    if contender == PUBLISHED:

        def published() -> object:
            paths = [F.conv2d(x, small, padding=k - 1, groups=c) for _ in range(2)]
            return shift_add(paths[0] + paths[1], table, (shape.size, shape.size))

        return torch.no_grad()(published)

    stripes = Stripes(*(t.contiguous() for t in assemble_stripes(small, table)))  # as parameters are
    if contender == THREE_MAPS:
        return torch.no_grad()(lambda: stripe_conv2d(x, *stripes, anchor))
    if contender == TRAINING:
        upstream = torch.ones_like(x)
        trained = [t.clone().requires_grad_() for t in (x, *stripes)]

        def training() -> object:
            x, horizontal, vertical, square = trained
            maps = stripe_conv2d(x, horizontal, vertical, square, anchor)
            return torch.autograd.grad(maps, trained, [upstream] * 3)

        return training

    bias = random(c)
    if contender == EXACT:
        return torch.no_grad()(lambda: stripe_conv2d_fused(x, *stripes[:2], bias, anchor, exact=True))
    fused = reference.stripe_conv2d_fused if contender == BY_TORCH else stripe_conv2d_fused
    return torch.no_grad()(lambda: fused(x, *stripes[:2], bias, anchor))


def _make_dense(contender: str, x: Tensor, random: Callable[..., Tensor]) -> Run:
    by, size, training = _DENSE[contender]
    channels = x.shape[1]
    weight, upstream = random(channels, 1, size, size), torch.ones_like(x)

    def forward() -> Tensor:
        if by == "sw_ops":
            return depthwise_conv2d(x, weight)
        return F.conv2d(x, weight, padding=size // 2, groups=channels)

    if not training:
        return torch.no_grad()(forward)
    x.requires_grad_()
    weight.requires_grad_()
    return lambda: torch.autograd.grad(forward(), (x, weight), upstream)
