"""``pointwise_mlp`` is its formula, whatever computes it."""

import pytest
import torch
from torch import Tensor

from sw_ops import mlp_is_compiled, pointwise_mlp, use_backend
from sw_ops.backend import _C

NAMES = ("x", "processed", "ghost_scale", "ghost_shift", "squeeze", "squeeze_bias", "excite", "excite_bias")
NAMES = (*NAMES, "expand", "expand_bias", "response", "project", "project_bias")
SIZES = {  # batch, channels, processed, squeezed, hidden, height, width
    "one pixel": (2, 5, 3, 1, 19, 1, 1),
    "no ghosts": (1, 16, 16, 4, 64, 5, 3),
    "odd": (2, 37, 20, 9, 41, 13, 2),
    "many pixels": (1, 8, 6, 2, 32, 60, 70),
    "wide": (3, 40, 30, 10, 800, 7, 7),
}


def arguments(batch: int, channels: int, processed: int, squeezed: int, hidden: int, h: int, w: int) -> list[Tensor]:
    """Random float64 arguments, of a size that keeps the numbers near one."""
    generator = torch.Generator().manual_seed(1)
    ghosts = channels - processed
    shapes = [
        (batch, channels, h, w),
        (batch, processed, h, w),
        (ghosts,),
        (ghosts,),
        (squeezed, channels),
        (squeezed,),
    ]
    shapes += [(channels, squeezed), (channels,), (hidden, channels), (hidden,), (hidden,), (channels, hidden)]
    values = [torch.randn(s, generator=generator, dtype=torch.float64) for s in (*shapes, (channels,))]
    for index in (4, 6, 8, 11):
        values[index] /= values[index].shape[1] ** 0.5
    return values


def by_the_formula(eps: float, *values: Tensor) -> Tensor:
    """The formula of the docstring, an image and a pixel at a time, with Phi as an integral's closed form."""
    x, processed, scale, shift, squeeze, squeeze_bias, excite, excite_bias, expand, expand_bias, *rest = values
    response, project, project_bias = rest
    y = x.clone()
    for image in range(len(x)):
        z = torch.stack(
            [*processed[image], *(x[image, processed.shape[1] :] * scale[:, None, None] + shift[:, None, None])]
        )
        gate = torch.sigmoid(excite @ (squeeze @ z.mean((1, 2)) + squeeze_bias).clamp_min(0) + excite_bias)
        z = z * gate[:, None, None]
        pixels = [expand @ z[:, r, q] + expand_bias for r in range(z.shape[1]) for q in range(z.shape[2])]
        h = torch.stack([p * (1 + torch.erf(p / 2**0.5)) / 2 for p in pixels])
        norm = h.square().sum(0).sqrt()
        h = h * (1 + response * norm / (norm.mean() + eps))
        y[image] += torch.stack([project @ p + project_bias for p in h], dim=1).view_as(y[image])
    return y


def laid_out(values: list[Tensor], layout: torch.memory_format) -> list[Tensor]:
    return [v.contiguous(memory_format=layout) if v.ndim == 4 else v for v in values]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@torch.no_grad()
def test_the_kernel_is_the_formula(sizes, layout, threads, instruction_set):
    exact = arguments(*sizes)
    rounded = [v.float() for v in exact]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = torch.ops.sw_ops.pointwise_mlp(*laid_out(rounded, layout), 1e-6)
    finally:
        torch.set_num_threads(before)
    want = by_the_formula(1e-6, *(v.double() for v in rounded))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - want).abs().max() < 5e-6 * want.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["auto", "torch"])
@torch.no_grad()
def test_every_dtype_is_the_formula(dtype, backend):
    values = [v.to(dtype) for v in arguments(*SIZES["odd"])]
    want = by_the_formula(1e-3, *(v.double() for v in values))
    with use_backend(backend):
        found = pointwise_mlp(*values, eps=1e-3)
    assert found.dtype == dtype
    assert (found - want).abs().max() < 100 * torch.finfo(dtype).eps * want.abs().max()


def test_gradients_of_every_argument():
    values = [v.requires_grad_() for v in arguments(1, 3, 2, 1, 5, 2, 3)]
    assert torch.autograd.gradcheck(pointwise_mlp, values)


def test_a_gradient_that_is_wanted_is_had():
    values = [v.float() for v in arguments(*SIZES["odd"])]
    values[0].requires_grad_()
    pointwise_mlp(*values).sum().backward()
    assert values[0].grad is not None
    assert values[0].grad.abs().max() > 0


@torch.no_grad()
def test_gelu_is_exact_where_it_is_steep_and_where_it_ends(instruction_set):
    """With one channel, unit weights and a norm that does nothing, the operator is a GELU."""
    points = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, 1e-8, -1e-8, 1e4, -1e4])])
    x, one, none = points.view(1, 1, 1, -1), torch.ones(1), torch.zeros(1)
    open_gate = torch.full((1,), 100.0)  # whose sigmoid is 1
    rest = (torch.ones(0), torch.ones(0), one[:, None], none, none[:, None], open_gate, one[:, None], none)
    found = torch.ops.sw_ops.pointwise_mlp(x, x, *rest, none, one[:, None], none, 1e-6) - x
    want = torch.nn.functional.gelu(points.double())
    error = (found.flatten() - want).abs() - points.abs() * 1.5 * torch.finfo(torch.float32).eps  # of the sum with x
    assert error.max() < 5e-7


@torch.no_grad()
def test_a_nan_stays_in_its_image(instruction_set):
    values = [v.float() for v in arguments(*SIZES["odd"])]
    values[1][0, 0, 0, 0] = torch.nan
    found = torch.ops.sw_ops.pointwise_mlp(*values, 1e-6)
    assert found[0].isnan().all()
    assert found[1].isfinite().all()


@torch.no_grad()
def test_an_empty_batch_stays_empty():
    values = [v.float() for v in arguments(*SIZES["odd"])]
    values[:2] = [v[:0] for v in values[:2]]
    assert pointwise_mlp(*values).shape == (0, *values[0].shape[1:])


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
@torch.no_grad()
def test_what_does_not_fit_is_named(index):
    values = [v.float() for v in arguments(*SIZES["odd"])]
    name = NAMES[index]
    for wrong in (values[index][..., None], values[index].double()) if index else (values[index][0],):
        given = [wrong if i == index else v for i, v in enumerate(values)]
        with pytest.raises((ValueError, TypeError), match=f"^{name}: got "):
            pointwise_mlp(*given)


@torch.no_grad()
def test_the_operator_passes_pytorchs_checks():
    values = [v.float() for v in arguments(*SIZES["odd"])]
    torch.library.opcheck(torch.ops.sw_ops.pointwise_mlp.default, (*values, 1e-6))


def test_the_kernel_serves_only_where_it_can():
    x = torch.ones(1, 3, 2, 2)
    assert not mlp_is_compiled(x)  # gradients may be wanted
    with torch.no_grad():
        fast = _C is not None and _C.cpu.instruction_set() != "portable"
        assert mlp_is_compiled(x) == fast
        assert not mlp_is_compiled(x.bfloat16())
        with use_backend("torch"):
            assert not mlp_is_compiled(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert not mlp_is_compiled(x)
