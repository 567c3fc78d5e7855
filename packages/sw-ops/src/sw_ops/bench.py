"""Measures the operator beside a dense depthwise 13x13 convolution and the published algorithm, in one run.

All contenders of a shape take turns, so that a machine whose speed drifts changes the figures but not the ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sw_ops.assembly import Stripes, assemble_stripes
from sw_ops.backend import _C, use_backend
from sw_ops.shift_add import shift_add
from sw_ops.stripe import stripe_conv2d, stripe_conv2d_fused
from sw_ops.table import ShiftTable, slot_count

_TURN_SECONDS = 5e-3
DENSE_KERNEL = 13  # the kernel of UniRepLKNet (arXiv 2311.15599), the rival in speed
DENSE = f"dense {DENSE_KERNEL}x{DENSE_KERNEL}"
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
        of_dense: time in units of the dense 13x13 convolution in its faster layout.
    """

    shape: str
    contender: str
    layout: str
    milliseconds: float
    gmacs: float | None
    of_peak: float | None
    of_dense: float


def measure(
    shapes: Iterable[Shape] = TINY_STAGES,
    *,
    batch: int = 8,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    repeats: int = 20,
    published: bool = True,
) -> Iterator[list[Row]]:
    """Measure every contender on every shape; yields the rows of each shape as soon as they are known."""
    for shape in shapes:
        runs = _contenders(shape, batch, device, dtype, published)
        if peak_known := device.type == "cpu" and _C is not None:
            runs[_PEAK] = _multiply_adds
        seconds = _take_turns(runs, repeats, device)
        peak = _multiply_adds() / seconds.pop(_PEAK) if peak_known else None
        dense = min(s for (name, _), s in seconds.items() if name == DENSE)
        macs = multiply_adds(shape) * batch
        yield [
            Row(
                str(shape),
                name,
                layout,
                milliseconds=s * 1e3,
                gmacs=macs / s / 1e9 if name == "fused" else None,
                of_peak=macs / s / peak if peak and name == "fused" else None,
                of_dense=s / dense,
            )
            for (name, layout), s in seconds.items()
        ]


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
    """Sum each contender over the shapes, in its faster layout for each, in units of the dense 13x13 forward."""
    best: dict[str, dict[str, float]] = {}
    for row in rows:
        shapes = best.setdefault(row.contender, {})
        shapes[row.shape] = min(row.milliseconds, shapes.get(row.shape, float("inf")))
    dense = sum(best[DENSE].values())
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


def _contenders(
    shape: Shape, batch: int, device: torch.device, dtype: torch.dtype, published: bool
) -> dict[tuple[str, str], Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    c, k, anchor = shape.channels, shape.small_kernel, shape.kernel_size // 2
    table = ShiftTable.shuffled(c, shape.kernel_size, k, n_rep=4)

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator).to(device, dtype)

    small = random(c * table.slots, 1, k, k)
    stripes = Stripes(*(t.contiguous() for t in assemble_stripes(small, table)))  # as parameters are
    bias, dense = random(c), random(c, 1, DENSE_KERNEL, DENSE_KERNEL)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for layout, memory_format in LAYOUTS.items():
        x = random(batch, c, shape.size, shape.size).contiguous(memory_format=memory_format)
        upstream = torch.ones_like(x)
        trained = [t.clone().requires_grad_() for t in (x, *stripes)]

        def forward(x: Tensor = x) -> object:
            return stripe_conv2d(x, *stripes, anchor)

        def fused(x: Tensor = x) -> object:
            return stripe_conv2d_fused(x, *stripes[:2], bias, anchor)

        def training(trained: list[Tensor] = trained, upstream: Tensor = upstream) -> object:
            x, horizontal, vertical, square = trained
            maps = stripe_conv2d(x, horizontal, vertical, square, anchor)
            return torch.autograd.grad(maps, trained, [upstream] * 3)

        def dense_forward(x: Tensor = x) -> object:
            return F.conv2d(x, dense, padding=DENSE_KERNEL // 2, groups=c)

        def by_torch(x: Tensor = x) -> object:
            with use_backend("torch"):
                return stripe_conv2d_fused(x, *stripes[:2], bias, anchor)

        runs["fused", layout] = torch.no_grad()(fused)
        runs["three maps", layout] = torch.no_grad()(forward)
        runs["three maps + backward", layout] = training
        runs["fused, by PyTorch", layout] = torch.no_grad()(by_torch)
        runs[DENSE, layout] = torch.no_grad()(dense_forward)
        runs["copy of the input", layout] = x.clone

    if published:
        x = random(batch, c, shape.size, shape.size)

        def published_forward() -> object:
            paths = [F.conv2d(x, small, padding=k - 1, groups=c) for _ in range(2)]
            return shift_add(paths[0] + paths[1], table, (shape.size, shape.size))

        runs["published algorithm", "contiguous"] = torch.no_grad()(published_forward)
    return runs


def _take_turns(
    runs: dict[tuple[str, str], Callable[[], object]], repeats: int, device: torch.device
) -> dict[tuple[str, str], float]:
    """Return the median seconds per call of each, a few calls of each in turn."""
    calls = {key: max(1, int(_TURN_SECONDS / _seconds(run, 2, device))) for key, run in runs.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(repeats):
        for key, run in runs.items():
            run()  # brings its own data back into the caches
            seconds[key].append(_seconds(run, calls[key], device))
    return {key: statistics.median(values) for key, values in seconds.items()}


def _seconds(run: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the seconds per call, of so many calls in a row."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / calls
