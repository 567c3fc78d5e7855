"""``global_response_norm`` is its formula, and so are its gradients, whatever computes them."""

import pytest
import torch
from torch import Tensor

from sw_ops import global_response_norm, use_backend
from sw_ops.backend import _C

SHAPES = {
    "one number": (1, 1, 1, 1),
    "one pixel": (2, 37, 1, 1),
    "one channel": (3, 1, 5, 7),
    "odd": (3, 37, 13, 7),
    "many pixels": (1, 16, 90, 70),
    "many channels": (2, 1100, 5, 5),
    "many images": (70, 8, 9, 9),
}
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "neither": lambda x: x.repeat_interleave(2, 3)[..., ::2],
}
compiled = pytest.mark.skipif(_C is None, reason="there are no compiled kernels")


def arguments(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = (shape, shape[1:2], shape[1:2])
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def by_the_formula(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """The formula of the docstring, an image and a channel at a time."""
    images = []
    for image in x:
        norms = [channel.square().sum().sqrt() for channel in image]
        mean = sum(norms) / len(norms) + eps
        channels = zip(image, weight, bias, norms, strict=True)
        images.append(torch.stack([m * (1 + w * n / mean) + b for m, w, b, n in channels]))
    return torch.stack(images)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_output_and_gradients_are_the_formulas(shape, layout, instruction_set):
    x, weight, bias = arguments(shape, torch.float32)
    inputs = [layout(x).requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    found, want = global_response_norm(*inputs), by_the_formula(*exact)
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    pairs = zip(
        (found, *torch.autograd.grad(found, inputs, layout(upstream))),
        (want, *torch.autograd.grad(want, exact, upstream.double())),
        strict=True,
    )
    for got, exactly in pairs:
        assert (got - exactly).abs().max() <= 1e-5 * exactly.abs().max()


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_the_layout_stays(layout):
    x, weight, bias = arguments(SHAPES["odd"], torch.float32)
    x = LAYOUTS[layout](x).requires_grad_()
    y = global_response_norm(x, weight, bias)
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    assert y.stride() == x.stride() == grad.stride()


@compiled
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_threads_change_no_bit(shape, layout):
    x, weight, bias = arguments(shape, torch.float32)
    x, before, results = LAYOUTS[layout](x).requires_grad_(), torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            y = global_response_norm(x, weight.requires_grad_(), bias.requires_grad_())
            results.append((y, *torch.autograd.grad(y, (x, weight, bias), y.detach())))
        finally:
            torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_every_dtype_is_the_formula(dtype, backend):
    inputs = arguments(SHAPES["odd"], dtype)
    with use_backend(backend):
        found = global_response_norm(*inputs, eps=1e-3)
    want = by_the_formula(*(t.double() for t in inputs), eps=1e-3)
    assert found.dtype == dtype
    assert (found - want).abs().max() < 4 * torch.finfo(dtype).eps * want.abs().max()


def test_a_map_of_16_bits_keeps_its_dtype_beside_parameters_of_32():
    x, weight, bias = arguments(SHAPES["odd"], torch.float32)
    assert global_response_norm(x.bfloat16(), weight, bias).dtype == torch.bfloat16


def test_gradients_of_the_first_and_second_order():
    inputs = [t.requires_grad_() for t in arguments((2, 3, 2, 2))]
    assert torch.autograd.gradcheck(global_response_norm, inputs)
    assert torch.autograd.gradgradcheck(global_response_norm, inputs)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1, 2)])
def test_the_kernels_gradient_has_the_formulas_gradient(wanted):
    inputs = arguments(SHAPES["odd"], torch.float32)
    exact = [t.double() for t in inputs]

    def second(norm, tensors: list[Tensor]) -> list[Tensor]:
        for index in wanted:
            tensors[index].requires_grad_()
        chosen = [tensors[index] for index in wanted]
        first = torch.autograd.grad(norm(*tensors).pow(3).sum(), chosen, create_graph=True)
        return list(torch.autograd.grad(sum(t.square().sum() for t in first), chosen))

    for got, want in zip(second(global_response_norm, inputs), second(by_the_formula, exact), strict=True):
        assert (got - want).abs().max() < 1e-4 * want.abs().max()


def test_a_channel_of_zeros_has_a_finite_gradient(instruction_set):
    x, weight, bias = arguments(SHAPES["odd"], torch.float32)
    x[0, 3] = 0
    x[1] = 0
    (grad,) = torch.autograd.grad(global_response_norm(x.requires_grad_(), weight, bias).sum(), x)
    assert grad.isfinite().all()


def test_a_nan_stays_in_its_image(instruction_set):
    x, weight, bias = arguments(SHAPES["odd"], torch.float32)
    x[0, 0, 0, 0] = torch.nan
    found = global_response_norm(x, weight, bias)
    assert found[0].isnan().all()
    assert found[1:].isfinite().all()


@pytest.mark.parametrize("shape", [(0, 5, 3, 3), (2, 5, 0, 3)])
def test_nothing_stays_nothing(shape):
    inputs = [t.requires_grad_() for t in arguments(shape, torch.float32)]
    y = global_response_norm(*inputs)
    assert y.shape == shape
    assert [g.abs().sum() for g in torch.autograd.grad(y.sum(), inputs)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x", lambda x, w, b: (x[0], w, b)),
        ("x", lambda x, w, b: (x.long(), w, b)),
        ("weight", lambda x, w, b: (x, w[1:], b)),
        ("weight", lambda x, w, b: (x, w.long(), b)),
        ("bias", lambda x, w, b: (x, w, b[:, None])),
        ("bias", lambda x, w, b: (x, w, b.to("meta"))),
    ],
)
def test_what_does_not_fit_is_named(name, change):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: got "):
        global_response_norm(*change(*arguments(SHAPES["odd"], torch.float32)))


@compiled
def test_the_operator_passes_pytorchs_checks():
    inputs = [t.requires_grad_() for t in arguments(SHAPES["odd"], torch.float32)]
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.sw_ops.global_response_norm.default, (*inputs, 1e-6), test_utils=tests)


@compiled
def test_the_operator_refuses_what_it_has_no_kernel_for():
    with pytest.raises(TypeError, match=r"torch\.float64"):
        torch.ops.sw_ops.global_response_norm(*arguments(SHAPES["odd"]), 1e-6)


def test_transforms_traces_and_scripts_compute_the_same():
    x, weight, bias = arguments(SHAPES["odd"], torch.float32)
    want = global_response_norm(x, weight, bias)
    mapped = torch.func.vmap(lambda one: global_response_norm(one[None], weight, bias)[0])(x)
    scripted = torch.jit.script(global_response_norm)(x, weight, bias)
    traced = torch.jit.trace(lambda x: global_response_norm(x, weight, bias), (x,))(x)
    _, tangent = torch.func.jvp(lambda x: global_response_norm(x, weight, bias), (x,), (x,))
    for found in (mapped, scripted, traced):
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)
    scaled = global_response_norm(2 * x, weight, bias) - want  # the norm's response has no scale
    torch.testing.assert_close(tangent, scaled, rtol=1e-3, atol=1e-3)
