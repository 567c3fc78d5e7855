"""Transforms of torch.func, forward-mode derivatives, autocast and counters give what the PyTorch form gives."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import sw_ops
from sw_ops import ShiftwiseConv2d, stripe_conv2d, stripe_conv2d_fused


def arguments(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 6, 7), (3, 3, 9), (3, 9, 3), (3, 3, 3))
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


_, *KERNELS = arguments()


def of_x(x):
    return sum(m.square().sum() for m in stripe_conv2d(x, *KERNELS, 4))


TRANSFORMS = {
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    "grad": lambda f, x: torch.func.grad(f)(x),
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](torch.ones((), dtype=x.dtype))[0],
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(f))(torch.stack([x, 2 * x])),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_gives_what_the_pytorch_form_gives(name):
    x = arguments()[0]
    with sw_ops.use_backend("torch"):
        want = TRANSFORMS[name](of_x, x)
    got = TRANSFORMS[name](of_x, x)
    assert want.abs().max() > 1
    torch.testing.assert_close(got, want)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["jvp", "grad", "vmap", "vmap of grad"])
@pytest.mark.parametrize("form", ["training", "frozen", "fused"])
def test_a_transform_of_a_layer_gives_what_the_pytorch_form_gives(form, name):
    torch.manual_seed(0)
    layer = ShiftwiseConv2d(3, 9, dtype=torch.float64)
    if form == "training":
        for norm in (layer.norm_horizontal, layer.norm_vertical, layer.norm_identity):
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    layer = layer.eval().fuse() if form == "fused" else layer.train(form == "training")
    x = arguments()[0]
    with sw_ops.use_backend("torch"):
        want = TRANSFORMS[name](lambda x: layer(x).square().sum(), x)
    torch.testing.assert_close(TRANSFORMS[name](lambda x: layer(x).square().sum(), x), want)


def test_a_tangent_passes_through_without_torch_func():
    x, horizontal, vertical, _ = arguments()
    bias = torch.zeros(3, dtype=x.dtype)
    with forward_ad.dual_level():
        y = stripe_conv2d_fused(forward_ad.make_dual(x, x), horizontal, vertical, bias, 4)
        value, tangent = forward_ad.unpack_dual(y)
    torch.testing.assert_close(tangent, value)  # the operator is linear


def test_autocast_leaves_float64_alone():
    layer = ShiftwiseConv2d(4, 9, dtype=torch.float64)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    want = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
        got.sum().backward()
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, want)


def test_counters_see_the_operator_forward_and_backward():
    x, *kernels = (t.requires_grad_() for t in arguments(torch.float32))
    with FlopCounterMode(display=False) as counter:
        h, v, s = stripe_conv2d(x, *kernels, 4)
        forward = counter.get_total_flops()
        (h + v + s).sum().backward()
    assert forward == 2 * x.numel() * (3 * 9 + 9 * 3 + 3 * 3)
    assert counter.get_total_flops() == 3 * forward
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        stripe_conv2d_fused(x, kernels[0], kernels[1], torch.zeros(3), 4)
    assert counter.get_total_flops() == 2 * x.numel() * (3 * 9 + 9 * 3)
