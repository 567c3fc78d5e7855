from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import sw_ops
from sw_ops import depthwise_conv2d

from conftest import assert_close_to_maximum, seeded

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
MEMORY = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "channel slice": lambda x: torch.cat([x, x, x], 1).contiguous(memory_format=torch.channels_last)[:, : x.shape[1]],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1].expand_as(x),
}


def one_pixel_at_a_time(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Correlate ``x`` with the centred kernels by the definition."""
    y = bias[:, None, None].expand_as(x).clone()
    height, width = x.shape[2:]
    rows, columns = weight.shape[2:]
    for r in range(height):
        for q in range(width):
            for a in range(rows):
                for m in range(columns):
                    above, beside = r + a - rows // 2, q + m - columns // 2
                    if 0 <= above < height and 0 <= beside < width:
                        y[:, :, r, q] += x[:, :, above, beside] * weight[:, 0, a, m]
    return y


def random_arguments(sizes: tuple[int, ...], kernel: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    generator = seeded(seed)
    shapes = [sizes, (sizes[1], 1, *kernel), (sizes[1],)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3), (1, 9), (13, 13)])
@pytest.mark.parametrize("size", [(4, 6), (7, 2), (1, 1)])
def test_the_definition(size: tuple[int, int], kernel: tuple[int, int], backend: str) -> None:
    x, weight, bias = random_arguments((2, 2, *size), kernel)
    assert_close_to_maximum(depthwise_conv2d(x, weight, bias), one_pixel_at_a_time(x, weight, bias), 1e-12)
    assert_close_to_maximum(depthwise_conv2d(x, weight), one_pixel_at_a_time(x, weight, 0 * bias), 1e-12)


@st.composite
def problems(draw: st.DrawFn) -> dict:
    return {
        "sizes": tuple(draw(st.integers(low, high)) for low, high in ((0, 3), (1, 35), (1, 20), (1, 32))),
        "kernel": tuple(2 * draw(st.integers(0, 8)) + 1 for _ in range(2)),
        "dtype": draw(st.sampled_from(list(TOLERANCE))),
        "memory": draw(st.sampled_from(list(MEMORY))),
        "seed": draw(st.integers(0, 1000)),
    }


def outputs_and_gradients(arguments: list[torch.Tensor], upstream: torch.Tensor) -> list[torch.Tensor]:
    arguments = [t.detach().requires_grad_() for t in arguments]
    y = depthwise_conv2d(*arguments)
    return [y.detach(), *torch.autograd.grad(y, arguments, upstream)]


@settings(max_examples=40, deadline=None)
@given(problem=problems())
@example({"sizes": (2, 80, 7, 7), "kernel": (13, 13), "dtype": torch.float32, "memory": "channels_last", "seed": 0})
@example({"sizes": (1, 17, 56, 56), "kernel": (13, 13), "dtype": torch.float32, "memory": "contiguous", "seed": 0})
def test_native_and_torch_agree(problem: dict) -> None:
    exact = random_arguments(problem["sizes"], problem["kernel"], problem["seed"])
    rounded = [t.to(problem["dtype"]) for t in exact]
    rounded[0] = MEMORY[problem["memory"]](rounded[0])
    upstream = torch.randn(exact[0].shape, generator=seeded(problem["seed"] + 1), dtype=torch.float64)
    upstream = upstream.to(problem["dtype"])
    with sw_ops.use_backend("native"):
        got = outputs_and_gradients(rounded, upstream)
    with sw_ops.use_backend("torch"):
        want = outputs_and_gradients([t.double() for t in rounded], upstream.double())
        # What the same sums would be without cancellation: no sum in float32 can be more exact than its largest part.
        magnitude = outputs_and_gradients([t.double().abs() for t in rounded], upstream.double().abs())
    for g, w, m in zip(got, want, magnitude, strict=True):
        assert g.dtype == problem["dtype"]
        assert torch.isfinite(g).all()
        if g.numel():
            cancelled = 0 if problem["dtype"] == torch.float64 else torch.finfo(torch.float32).eps * m.max()
            assert (g.double() - w).abs().max() <= TOLERANCE[problem["dtype"]] * w.abs().max() + cancelled


@pytest.mark.skipif(torch.get_default_device().type != "cpu", reason="instruction sets are the CPU's")
@pytest.mark.parametrize("name", ["avx512", "avx2", "portable"])
def test_every_instruction_set_computes_the_same(name: str) -> None:
    from sw_ops import _C

    if not _C.cpu.instruction_set_available(name):
        pytest.skip(f"this machine has no {name}")
    for sizes, kernel in (((1, 19, 9, 31), (7, 13)), ((1, 5, 7, 7), (13, 13)), ((2, 3, 20, 16), (21, 5))):
        arguments = random_arguments(sizes, kernel)
        upstream = torch.randn(sizes, generator=seeded(1), dtype=torch.float64)
        before = _C.cpu.instruction_set()
        _C.cpu.use_instruction_set(name)
        try:
            got = outputs_and_gradients(arguments, upstream)
        finally:
            _C.cpu.use_instruction_set(before)
        with sw_ops.use_backend("torch"):
            want = outputs_and_gradients(arguments, upstream)
        for g, w in zip(got, want, strict=True):
            assert_close_to_maximum(g, w, 1e-12)


def test_maps_without_a_pixel_are_computed() -> None:
    for sizes in ((0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)):
        x, weight, bias = random_arguments(sizes, (3, 5))
        with sw_ops.use_backend("native"):
            y, grad_x, grad_weight, grad_bias = outputs_and_gradients([x, weight, bias], torch.zeros_like(x))
        assert y.shape == grad_x.shape == sizes
        assert torch.equal(grad_weight, torch.zeros_like(weight))
        assert torch.equal(grad_bias, torch.zeros_like(bias))


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_results_keep_the_memory_format(memory: str, backend: str) -> None:
    x, weight, _ = (t.float() for t in random_arguments((2, 20, 6, 5), (7, 7)))
    x = MEMORY[memory](x)
    assert depthwise_conv2d(x, weight).stride() == x.stride()


def test_a_number_that_is_not_finite_stays_under_the_kernel(backend: str) -> None:
    x, weight, _ = (t.float() for t in random_arguments((1, 3, 30, 30), (5, 7)))
    x[0, 1, 15, 10] = float("inf")
    reached = ~depthwise_conv2d(x, weight).isfinite()
    want = torch.zeros_like(reached)
    want[0, 1, 13:18, 7:14] = True
    assert torch.equal(reached, want)


def test_sums_of_integers_are_exact(backend: str) -> None:
    generator = seeded(0)
    x = torch.randint(-4, 5, (2, 18, 20, 20), generator=generator).float()
    weight = torch.randint(-4, 5, (18, 1, 13, 13), generator=generator).float()
    want = F.conv2d(x.double(), weight.double(), padding=6, groups=18)
    assert torch.equal(depthwise_conv2d(x, weight).double(), want)


def test_gradients_of_every_order(backend: str) -> None:
    arguments = [t.requires_grad_() for t in random_arguments((1, 2, 3, 4), (3, 5))]
    assert torch.autograd.gradcheck(depthwise_conv2d, arguments)
    assert torch.autograd.gradgradcheck(depthwise_conv2d, arguments)
    x, weight, _ = arguments
    third = [
        torch.autograd.grad(torch.autograd.grad((f(x, weight) ** 3).sum(), x, create_graph=True)[0].sum(), weight)[0]
        for f in (depthwise_conv2d, lambda x, w: F.conv2d(x, w, padding=(1, 2), groups=2))
    ]
    assert_close_to_maximum(third[0], third[1], 1e-12)


def test_registration_passes_opcheck() -> None:
    x, weight, bias = (t.float().requires_grad_() for t in random_arguments((2, 3, 5, 7), (3, 5)))
    torch.library.opcheck(torch.ops.sw_ops.depthwise_conv2d, (x, weight, bias))
    torch.library.opcheck(torch.ops.sw_ops.depthwise_conv2d, (x, weight, None))
    torch.library.opcheck(torch.ops.sw_ops.depthwise_conv2d_weight_grad, (x, torch.randn_like(x), 3, 5))


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_the_number_of_threads_does_not_change_a_bit(memory: str) -> None:
    arguments = [t.float() for t in random_arguments((3, 37, 14, 19), (7, 7))]
    arguments[0] = MEMORY[memory](arguments[0])
    upstream = torch.randn(arguments[0].shape, generator=seeded(1))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append(outputs_and_gradients(arguments, upstream))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, want in zip(other[:3], results[0][:3], strict=True):  # the bias has PyTorch's own sum
            assert torch.equal(got, want)


def test_autocast_computes_in_its_dtype(backend: str) -> None:
    x, weight, bias = (t.float().requires_grad_() for t in random_arguments((2, 3, 5, 7), (3, 5)))
    exact = depthwise_conv2d(x, weight, bias)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        rounded = depthwise_conv2d(x, weight, bias)
    assert rounded.dtype == torch.bfloat16
    assert_close_to_maximum(rounded, exact, 3e-2)
    rounded.float().sum().backward()
    assert weight.grad.dtype == torch.float32


TRANSFORMS = {
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    "grad": lambda f, x: torch.func.grad(f)(x),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, 2 * x])),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_gives_what_the_pytorch_form_gives(name: str) -> None:
    x, weight, bias = random_arguments((2, 3, 6, 7), (5, 3))

    def of_x(x: torch.Tensor) -> torch.Tensor:
        return depthwise_conv2d(x, weight, bias).square().sum()

    with sw_ops.use_backend("torch"):
        want = TRANSFORMS[name](of_x, x)
    torch.testing.assert_close(TRANSFORMS[name](of_x, x), want)


def test_a_tangent_passes_through_without_torch_func() -> None:
    x, weight, _ = random_arguments((2, 3, 6, 7), (5, 3))
    with forward_ad.dual_level():
        y = depthwise_conv2d(forward_ad.make_dual(x, x), weight)
        value, tangent = forward_ad.unpack_dual(y)
    torch.testing.assert_close(tangent, value)  # the operator is linear


def test_compile_training_step() -> None:
    arguments = [t.float() for t in random_arguments((2, 6, 12, 10), (7, 7))]
    upstream = torch.randn(arguments[0].shape, generator=seeded(1))
    want = outputs_and_gradients(arguments, upstream)
    leaves = [t.clone().requires_grad_() for t in arguments]
    y = torch.compile(depthwise_conv2d, fullgraph=True)(*leaves)
    got = [y, *torch.autograd.grad(y, leaves, upstream)]
    for g, w in zip(got, want, strict=True):
        assert_close_to_maximum(g, w, 1e-5)


def test_shapes_are_known_without_data() -> None:
    x, weight, _ = (t.to("meta") for t in random_arguments((2, 6, 12, 10), (7, 7)))
    assert depthwise_conv2d(x, weight).shape == x.shape


class Convolution(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 1, 7, 5, generator=seeded(2)))
        self.bias = torch.nn.Parameter(torch.randn(6, generator=seeded(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return depthwise_conv2d(x, self.weight, self.bias)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_script() -> None:
    module, x = Convolution(), torch.randn(2, 6, 8, 9, generator=seeded(4))
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(copy.deepcopy(module)), buffer)
    buffer.seek(0)
    assert_close_to_maximum(torch.jit.load(buffer)(x), module(x), 1e-6)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_onnx(dynamo: bool, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    module, x, file = Convolution(), torch.randn(2, 6, 8, 9, generator=seeded(4)), tmp_path / "layer.onnx"
    options = {"external_data": False, "verbose": False} if dynamo else {}
    torch.onnx.export(module, (x,), file, dynamo=dynamo, **options)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.cpu().numpy()})
    assert_close_to_maximum(torch.from_numpy(got), module(x).cpu(), 1e-5)


def test_decompositions_leave_only_operators_of_pytorch() -> None:
    module, x = Convolution(), torch.randn(2, 6, 8, 9, generator=seeded(4))
    exported = torch.export.export(module, (x,))
    assert "sw_ops" in exported.graph_module.code
    decomposed = exported.run_decompositions(sw_ops.decompositions())
    assert "sw_ops" not in decomposed.graph_module.code
    assert_close_to_maximum(decomposed.module()(x), module(x), 1e-5)


def test_counters_see_the_operator_forward_and_backward() -> None:
    x, weight, bias = (t.float().requires_grad_() for t in random_arguments((2, 6, 12, 10), (7, 5)))
    with FlopCounterMode(display=False) as counter:
        y = depthwise_conv2d(x, weight, bias)
        forward = counter.get_total_flops()
        y.sum().backward()
    assert forward == 2 * x.numel() * 7 * 5
    assert counter.get_total_flops() == 3 * forward


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(3, 5, 7)}, ValueError, r"x: got shape \(3, 5, 7\), want \[batch, channels, height, width\]"),
        ({"x": torch.zeros(2, 3, 5, 7, dtype=torch.int32)}, TypeError, "x: got torch.int32, want a floating-point"),
        ({"weight": torch.zeros(3, 7, 7)}, ValueError, r"weight: got shape \(3, 7, 7\), want \[3, 1, kh, kw\]"),
        ({"weight": torch.zeros(4, 1, 7, 7)}, ValueError, r"weight: got shape \(4, 1, 7, 7\), want \[3, 1, kh, kw\]"),
        ({"weight": torch.zeros(3, 1, 7, 4)}, ValueError, "weight: got a 7x4 kernel, want odd numbers of rows"),
        ({"weight": torch.zeros(3, 1, 7, 7).double()}, TypeError, "weight: got torch.float64 on"),
        ({"bias": torch.zeros(4)}, ValueError, r"bias: got shape \(4,\), want \(3,\)"),
        ({"bias": torch.zeros(3).double()}, TypeError, "bias: got torch.float64 on"),
    ],
)
def test_bad_inputs_are_named(change: dict, error: type[Exception], message: str, backend: str) -> None:
    arguments = {"x": torch.zeros(2, 3, 5, 7), "weight": torch.zeros(3, 1, 7, 7), "bias": torch.zeros(3)}
    with pytest.raises(error, match=message):
        depthwise_conv2d(**(arguments | change))
