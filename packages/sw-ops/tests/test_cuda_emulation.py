"""The CUDA kernels, compiled for the CPU over an emulator of threads, barriers and matrix units."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

EMULATION = Path(__file__).parent / "cuda_emulation"
NATIVE = Path(__file__).parents[1] / "csrc" / "cuda"

SCALAR = {torch.float32: 0, torch.bfloat16: 2, torch.float16: 3}  # enum class Scalar
ROUNDING = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}

Sizes = tuple[int, int, int, int]
Stripe = tuple[int, int, int]  # length, thickness, anchor


class Launch(NamedTuple):
    blocks: int
    threads: int
    shared_bytes: int


class Map(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("strides", ctypes.c_int64 * 4)]


class Stripes(ctypes.Structure):
    _fields_ = [("kernels", ctypes.c_void_p * 3)]


class Problem(ctypes.Structure):
    _fields_ = [("scalar", ctypes.c_int), ("sizes", ctypes.c_int64 * 7), ("exact", ctypes.c_bool)]


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no CUDA compiler, whose headers the emulator needs")
    library = tmp_path_factory.mktemp("emulation") / "kernels.so"
    sources = [*NATIVE.glob("*.cu"), EMULATION / "functions.cpp"]
    host = "-Xcompiler=-fPIC,-fno-strict-aliasing,-Wno-attributes,-Wno-unknown-pragmas"
    link = ["-shared", "--cudart=none", "-Xlinker=-Bsymbolic"]
    include = [f"-I{NATIVE}", "-include", EMULATION / "emulator.h"]
    subprocess.run([nvcc, "-x", "c++", "-std=c++17", "-O1", host, *link, *include, *sources, "-o", library], check=True)
    functions = ctypes.CDLL(str(library))
    for name in ("forward", "fused", "input_grad", "weight_grad", "backward", "why_not_usable"):
        getattr(functions, name).restype = ctypes.c_char_p
    return functions


def empty(sizes: Sizes, layout: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return NaNs in memory, and the view of them that is a map of the given sizes."""
    batch, channels, height, width = sizes
    shape = {
        "contiguous": (batch, channels, height, width),
        "channels last": (batch, height, width, channels),
        "some channels": (batch, height, width, channels + 4),
        "odd channels": (batch, height, width, channels + 3),
        "crop": (batch, channels, height + 2, width + 3),
        "spaced": (batch, height, width, 2 * channels),
    }[layout]
    memory = torch.full(shape, float("nan"), dtype=dtype)
    if layout in ("contiguous", "crop"):
        return memory, memory[:, :, :height, :width]
    first, step = {"odd channels": (1, 1), "spaced": (0, 2)}.get(layout, (0, 1))
    return memory, memory.permute(0, 3, 1, 2)[:, first : first + step * channels : step]


def convolve(x: Tensor, kernel: Tensor, row: int, column: int) -> Tensor:
    """Correlate with the kernel whose tap (row, column) stands on the pixel."""
    below, right = kernel.shape[1] - 1 - row, kernel.shape[2] - 1 - column
    return F.conv2d(F.pad(x, (column, right, row, below)), kernel[:, None], groups=x.shape[1])


def reference(x: Tensor, stripes: list[Tensor], upstream: list[Tensor], anchor: int) -> list[Tensor]:
    """Return h, v, s, then the gradients to x and to the stripes, all in float64."""
    leaves = [t.detach().double().requires_grad_() for t in (x, *stripes)]
    centre = stripes[2].shape[1] // 2
    offsets = ((centre, anchor), (anchor, centre), (centre, centre))
    maps = [convolve(leaves[0], kernel, *offset) for kernel, offset in zip(leaves[1:], offsets, strict=True)]
    grads = torch.autograd.grad(maps, leaves, [t.double() for t in upstream])
    return [t.detach() for t in (*maps, *grads)]


def address(t: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(t.data_ptr())


def as_map(t: Tensor) -> Map:
    return Map(t.data_ptr(), (ctypes.c_int64 * 4)(*t.stride()))


def as_stripes(*tensors: Tensor | None) -> Stripes:
    return Stripes((ctypes.c_void_p * 3)(*(t if t is None else t.data_ptr() for t in tensors)))


def check(kernels: ctypes.CDLL, dtype: torch.dtype, sizes: Sizes, stripe: Stripe, layouts: list[str]) -> list[Launch]:
    """Compare all functions with the reference; return how each was launched."""
    length, thickness, anchor = stripe
    launches = []
    channels = sizes[1]
    generator = torch.Generator().manual_seed(0)
    layout = iter(layouts * 10)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    def random_map() -> Tensor:
        return empty(sizes, next(layout), dtype)[1].copy_(random(*sizes))

    def run(function: Callable[..., bytes | None], *arguments: Map | Stripes | ctypes.c_void_p) -> None:
        problem = Problem(SCALAR[dtype], (ctypes.c_int64 * 7)(*sizes, *stripe))
        error = function(*(a if isinstance(a, ctypes.c_void_p) else ctypes.byref(a) for a in (problem, *arguments)))
        assert error is None, error
        numbers = (ctypes.c_int64 * 3)()
        kernels.launch_of_last_function(numbers)
        launches.append(Launch(*numbers))

    x, upstream = random_map(), [random_map() for _ in range(3)]
    stripes = [random(channels, thickness, length), random(channels, length, thickness)]
    stripes.append(random(channels, thickness, thickness))
    bias = random(channels)
    outputs = [empty(sizes, next(layout), dtype) for _ in range(6)]
    memories, (h, v, s, y, grad_x, grad_x_of_both) = [m for m, _ in outputs], [t for _, t in outputs]
    grads, grads_of_both = ([torch.full_like(t, float("nan")) for t in stripes] for _ in range(2))

    run(kernels.forward, as_map(x), as_stripes(*stripes), as_map(h), as_map(v), as_map(s))
    run(kernels.fused, as_map(x), as_stripes(*stripes[:2], None), address(bias), as_map(y))
    run(kernels.input_grad, *map(as_map, upstream), as_stripes(*stripes), as_map(grad_x))
    run(kernels.weight_grad, as_map(x), *map(as_map, upstream), as_stripes(*grads))
    arguments = (as_stripes(*stripes), as_map(grad_x_of_both), as_stripes(*grads_of_both))
    run(kernels.backward, as_map(x), *map(as_map, upstream), *arguments)

    want = reference(x, stripes, upstream, anchor)
    size = reference(x.abs(), [t.abs() for t in stripes], [t.abs() for t in upstream], anchor)
    want += [*want[3:], want[0] + want[1] + bias.double()[:, None, None]]
    size += [*size[3:], size[0] + size[1]]
    results = (h, v, s, grad_x, *grads, grad_x_of_both, *grads_of_both, y)
    for got, exact, scale in zip(results, want, size, strict=True):
        allowed = 1.001 * ROUNDING[dtype] * exact.abs() + 3e-6 * scale + 1e-7
        wrong = ~((got.double() - exact).abs() <= allowed)
        assert not wrong.any(), f"{int(wrong.sum())} of {wrong.numel()} are wrong, first at {wrong.nonzero()[0]}"
    for memory, view in zip(memories, (h, v, s, y, grad_x, grad_x_of_both), strict=True):
        view.fill_(float("nan"))
        assert memory.isnan().all(), "written outside of the map"
    return launches


LAYOUTS = ["contiguous", "channels last", "some channels", "odd channels", "crop", "spaced"]
DTYPES = pytest.mark.parametrize("dtype", list(SCALAR), ids=lambda d: str(d).removeprefix("torch."))


@DTYPES
@pytest.mark.parametrize(
    ("sizes", "stripe"),
    [
        pytest.param((1, 3, 56, 56), (51, 3, 25), id="stage 1"),
        pytest.param((2, 18, 14, 14), (48, 3, 23), id="stage 3"),
        pytest.param((9, 34, 7, 7), (15, 3, 6), id="stage 4"),
        pytest.param((1, 2, 70, 90), (51, 3, 25), id="larger than a window"),
        pytest.param((3, 4, 33, 64), (21, 3, 10), id="two bands of rows, odd and even"),
        pytest.param((1, 1, 1, 150), (75, 5, 30), id="one row"),
        pytest.param((3, 1, 150, 1), (75, 2, 74), id="one column"),
    ],
)
def test_shapes_of_every_path(kernels: ctypes.CDLL, dtype: torch.dtype, sizes: Sizes, stripe: Stripe) -> None:
    kernels.emulate(227 * 1024, 132, 0)
    check(kernels, dtype, sizes, stripe, ["some channels", "channels last"])
    check(kernels, dtype, sizes, stripe, ["contiguous", "crop"])


@pytest.mark.parametrize("order", [1, 7], ids=["reversed", "shuffled"])
@DTYPES
def test_the_order_of_threads_does_not_matter(kernels: ctypes.CDLL, dtype: torch.dtype, order: int) -> None:
    kernels.emulate(227 * 1024, 1, order)
    check(kernels, dtype, (3, 5, 40, 33), (21, 3, 10), ["channels last"])


@pytest.mark.parametrize("kilobytes", [163, 99])
def test_devices_with_less_shared_memory(kernels: ctypes.CDLL, kilobytes: int) -> None:
    kernels.emulate(kilobytes * 1024, 100, 0)
    for dtype in SCALAR:
        check(kernels, dtype, (1, 6, 56, 56), (51, 3, 25), ["channels last"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(list(SCALAR)),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20), st.integers(1, 20)),
    length=st.integers(1, 30),
    thickness=st.integers(1, 5),
    anchor=st.floats(0, 1),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=1, max_size=4),
    order=st.integers(0, 5),
)
@example(torch.bfloat16, (1, 1, 1, 1), 1, 1, 0.0, ["contiguous"], 0)
def test_any_shape_and_layout(
    kernels: ctypes.CDLL,
    dtype: torch.dtype,
    sizes: Sizes,
    length: int,
    thickness: int,
    anchor: float,
    layouts: list[str],
    order: int,
) -> None:
    kernels.emulate(227 * 1024, 4, order)
    check(kernels, dtype, sizes, (length, thickness, round(anchor * (length - 1))), layouts)


@pytest.mark.parametrize("layout", ["channels last", "contiguous"])
def test_two_blocks_share_a_multiprocessor(kernels: ctypes.CDLL, layout: str) -> None:
    """Of an H100, with the largest maps that are whole in shared memory, whatever their layout."""
    kernels.emulate(227 * 1024, 1, 0)
    launches = check(kernels, torch.bfloat16, (1, 8, 56, 56), (51, 3, 25), [layout])
    assert len(launches) == 5
    for launch in launches:
        assert launch.threads == 256
        assert 2 * (launch.shared_bytes + 1024) <= 228 * 1024


@DTYPES
def test_an_infinity_stays_in_the_lines_that_read_it(kernels: ctypes.CDLL, dtype: torch.dtype) -> None:
    """Zeros of the Toeplitz factor make NaNs of it, as documented, but of no other line, channel or image."""
    kernels.emulate(227 * 1024, 4, 0)
    sizes, (length, k, anchor) = (2, 4, 40, 70), (9, 3, 4)
    x = torch.zeros(sizes, dtype=dtype)
    x[0, 1, 10, 20] = float("inf")
    stripes = [torch.ones(4, *shape, dtype=dtype) for shape in ((k, length), (length, k), (k, k))]
    h, v, s = outputs = [torch.empty_like(x) for _ in range(3)]
    problem = Problem(SCALAR[dtype], (ctypes.c_int64 * 7)(*sizes, length, k, anchor))
    arguments = (problem, as_map(x), as_stripes(*stripes), *map(as_map, outputs))
    assert kernels.forward(*map(ctypes.byref, arguments)) is None
    for name, output, lines in (("h", h, (9, 12)), ("v", v.transpose(2, 3), (19, 22)), ("s", s, (9, 12))):
        broken = ~output.isfinite()
        assert broken.any(), name
        broken[0, 1, slice(*lines)] = False
        assert not broken.any(), name


def test_a_stripe_that_does_not_fit(kernels: ctypes.CDLL) -> None:
    kernels.emulate(99 * 1024, 100, 0)
    with pytest.raises(AssertionError, match="a stripe of 64 x 900 taps needs more shared memory"):
        check(kernels, torch.bfloat16, (1, 1, 3, 3), (900, 64, 0), ["contiguous"])


@pytest.mark.parametrize("error", [35, 98, 209, 222])  # driver too old, no such function, no image, PTX too new
def test_usable_says_why_not_in_the_words_of_cuda(kernels: ctypes.CDLL, error: int) -> None:
    assert kernels.why_not_usable(0) == b""
    assert kernels.why_not_usable(error) == b"emulated error of the attributes"
