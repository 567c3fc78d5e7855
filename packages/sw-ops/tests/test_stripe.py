from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sw_ops
from sw_ops import stripe_conv2d, stripe_conv2d_fused

from conftest import assert_close_to_maximum, seeded

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def one_pixel_at_a_time(x: torch.Tensor, kernel: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Correlate ``x`` with ``kernel``, whose tap (row, column) stands on the pixel, by the definition."""
    y = torch.zeros_like(x)
    height, width = x.shape[2:]
    for r in range(height):
        for q in range(width):
            for a in range(kernel.shape[1]):
                for m in range(kernel.shape[2]):
                    above, beside = r + a - row, q + m - column
                    if 0 <= above < height and 0 <= beside < width:
                        y[:, :, r, q] += x[:, :, above, beside] * kernel[:, a, m]
    return y


def random_arguments(
    batch: int, channels: int, height: int, width: int, length: int, thickness: int, seed: int = 0
) -> list[torch.Tensor]:
    generator = seeded(seed)
    shapes = [
        (batch, channels, height, width),
        (channels, thickness, length),
        (channels, length, thickness),
        (channels, thickness, thickness),
    ]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize(("length", "thickness", "anchor"), [(9, 3, 4), (6, 3, 2), (15, 5, 9), (1, 1, 0), (3, 3, 1)])
@pytest.mark.parametrize("size", [(4, 6), (7, 2), (1, 1)])
def test_the_definition(size: tuple[int, int], length: int, thickness: int, anchor: int, backend: str) -> None:
    x, horizontal, vertical, square = random_arguments(2, 2, *size, length, thickness)
    h, v, s = stripe_conv2d(x, horizontal, vertical, square, anchor)
    centre = thickness // 2
    want_h = one_pixel_at_a_time(x, horizontal, centre, anchor)
    want_v = one_pixel_at_a_time(x, vertical, anchor, centre)
    assert_close_to_maximum(h, want_h, 1e-12)
    assert_close_to_maximum(v, want_v, 1e-12)
    assert_close_to_maximum(s, one_pixel_at_a_time(x, square, centre, centre), 1e-12)

    bias = square[:, 0, 0]
    fused = stripe_conv2d_fused(x, horizontal, vertical, bias, anchor)
    assert_close_to_maximum(fused, want_h + want_v + bias[:, None, None], 1e-12)


MEMORY = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "channel slice": lambda x: torch.cat([x, x, x], 1).contiguous(memory_format=torch.channels_last)[:, : x.shape[1]],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1].expand_as(x),
}


@st.composite
def problems(draw: st.DrawFn) -> dict:
    thickness = draw(st.sampled_from([1, 3, 5]))
    length = draw(st.integers(thickness, 60))
    return {
        "sizes": [draw(st.integers(low, high)) for low, high in ((0, 3), (1, 35), (1, 20), (1, 70))],
        "length": length,
        "thickness": thickness,
        "anchor": draw(st.integers(0, length - 1)),
        "dtype": draw(st.sampled_from(list(TOLERANCE))),
        "memory": draw(st.sampled_from(list(MEMORY))),
        "seed": draw(st.integers(0, 1000)),
    }


def outputs_and_gradients(
    arguments: list[torch.Tensor], anchor: int, upstream: list[torch.Tensor]
) -> list[torch.Tensor]:
    x, horizontal, vertical, square = (t.detach().requires_grad_() for t in arguments)
    bias = arguments[3][:, 0, 0].detach().requires_grad_()
    maps = stripe_conv2d(x, horizontal, vertical, square, anchor)
    fused = stripe_conv2d_fused(x, horizontal, vertical, bias, anchor)
    # One operator at a time: autograd would add the gradients of both in the low precision.
    grads = torch.autograd.grad(maps, (x, horizontal, vertical, square), upstream[:3])
    return [*maps, fused, *grads, *torch.autograd.grad(fused, (x, horizontal, vertical, bias), upstream[3])]


@settings(max_examples=150, deadline=None)
@given(problem=problems())
@example(  # two gradients of this one are sums of 1862 products of which little is left
    problem={
        "sizes": [2, 1, 19, 49], "length": 1, "thickness": 1, "anchor": 0, "dtype": torch.float32,
        "memory": "contiguous", "seed": 238,
    }
)  # fmt: skip
def test_native_and_torch_agree(problem: dict) -> None:
    exact = random_arguments(*problem["sizes"], problem["length"], problem["thickness"], problem["seed"])
    rounded = [t.to(problem["dtype"]) for t in exact]
    rounded[0] = MEMORY[problem["memory"]](rounded[0])
    generator = seeded(problem["seed"])
    upstream = [torch.randn(exact[0].shape, generator=generator, dtype=torch.float64) for _ in range(4)]
    upstream = [t.to(problem["dtype"]) for t in upstream]
    with sw_ops.use_backend("native"):
        got = outputs_and_gradients(rounded, problem["anchor"], upstream)
    with sw_ops.use_backend("torch"):
        want = outputs_and_gradients([t.double() for t in rounded], problem["anchor"], [t.double() for t in upstream])
        # What the same sums would be without cancellation: no sum in float32 can be more exact than its largest part.
        magnitude = outputs_and_gradients(
            [t.double().abs() for t in rounded], problem["anchor"], [t.double().abs() for t in upstream]
        )
    for g, w, m in zip(got, want, magnitude, strict=True):
        assert g.dtype == problem["dtype"]
        assert torch.isfinite(g).all()
        if g.numel():
            error = (g.detach().double() - w.detach()).abs().max()
            cancelled = 0 if problem["dtype"] == torch.float64 else torch.finfo(torch.float32).eps * m.detach().max()
            assert error <= TOLERANCE[problem["dtype"]] * w.detach().abs().max() + cancelled


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_results_keep_the_memory_format(memory: str, backend: str) -> None:
    x, *kernels = (t.float() for t in random_arguments(2, 20, 6, 5, 9, 3))
    x = MEMORY[memory](x)
    for y in (*stripe_conv2d(x, *kernels, 4), stripe_conv2d_fused(x, *kernels[:2], kernels[2][:, 0, 0], 4)):
        assert y.stride() == x.stride()


@settings(max_examples=30, deadline=None)
@given(problem=problems(), share=st.floats(0, 1), ordered=st.booleans())
def test_chosen_channels_are_convolved_and_the_others_copied(problem: dict, share: float, ordered: bool) -> None:
    exact = random_arguments(*problem["sizes"], problem["length"], problem["thickness"], problem["seed"])
    shuffled = torch.randperm(exact[0].shape[1], generator=seeded(problem["seed"]))
    channels, order = shuffled[: max(1, round(share * len(shuffled)))], shuffled.flip(0) if ordered else None
    copied = torch.ones(len(shuffled), dtype=torch.bool).index_fill(0, channels, False)
    for backend, dtype in (("native", problem["dtype"]), ("torch", torch.float64)):
        x, *kernels = (t.to(dtype) for t in exact)
        x, anchor = MEMORY[problem["memory"]](x), problem["anchor"]
        kernels = [t[: len(channels)] for t in (*kernels[:2], kernels[2][:, 0, 0])]
        with sw_ops.use_backend(backend):
            want = x if order is None else x[:, order]
            processed = stripe_conv2d_fused(want[:, channels], *kernels, anchor)
            got = stripe_conv2d_fused(x, *kernels, anchor, False, channels, order)
        assert torch.equal(got[:, copied], want[:, copied])
        if processed.numel():
            assert_close_to_maximum(got[:, channels], processed, 2 * TOLERANCE[dtype])


def test_numbers_of_channels_that_x_has_not_are_refused() -> None:
    x, horizontal, vertical, square = random_arguments(1, 4, 5, 6, 9, 3)
    kernels = (horizontal[:2], vertical[:2], square[:2, 0, 0], 4, False)
    for wrong in (4, -1):
        with pytest.raises(ValueError, match=f"channels: got {wrong}, want numbers of the 4 channels of x"):
            torch.ops.sw_ops.stripe_conv2d_fused(x, *kernels, torch.tensor([0, wrong]))
    for channels, order, message in (
        (torch.tensor([0]), None, r"horizontal: got shape \(2, 3, 9\), want \[1, k, L\] as there are channels"),
        (torch.zeros(1, 2, dtype=torch.long), None, r"channels: got shape \(1, 2\), want one dimension"),
        (torch.tensor([0, 1]), torch.tensor([0, 1, 2]), "order: got 3 numbers, want 4, and channels with it"),
        (None, torch.arange(4), "order: got 4 numbers, want 4, and channels with it"),
    ):
        with pytest.raises(ValueError, match=message):
            stripe_conv2d_fused(x, *kernels, channels, order)
    with pytest.raises(TypeError, match=r"channels: got torch\.int32 on cpu, want torch\.int64"):
        stripe_conv2d_fused(x, *kernels, torch.tensor([0, 1], dtype=torch.int32))


def test_gradients_of_every_order(backend: str) -> None:
    arguments = [t.requires_grad_() for t in random_arguments(1, 2, 3, 4, 6, 3)]
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *t: stripe_conv2d(*t, 2), arguments)
    assert torch.autograd.gradgradcheck(lambda *t: stripe_conv2d(*t, 2), arguments)
    fused = [*arguments[:3], bias]
    assert torch.autograd.gradcheck(lambda *t: stripe_conv2d_fused(*t, 2), fused)
    assert torch.autograd.gradgradcheck(lambda *t: stripe_conv2d_fused(*t, 2), fused)
    wider = torch.randn(1, 4, 3, 2, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    chosen = (2, False, torch.tensor([3, 0]), torch.tensor([1, 3, 0, 2]))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda *t: stripe_conv2d_fused(*t, *chosen), [wider, *fused[1:]], fast_mode=True)


def test_registration_passes_opcheck() -> None:
    x, *kernels = (t.float().requires_grad_() for t in random_arguments(2, 3, 5, 7, 9, 3))
    maps = [torch.randn_like(x) for _ in range(3)]
    bias = torch.zeros(3, requires_grad=True)
    torch.library.opcheck(torch.ops.sw_ops.stripe_conv2d, (x, *kernels, 4))
    torch.library.opcheck(torch.ops.sw_ops.stripe_conv2d_fused, (x, *kernels[:2], bias, 4))
    chosen = (torch.tensor([4, 0, 2]), torch.tensor([1, 0, 4, 3, 2]))
    wider = MEMORY["transposed"](torch.randn(2, 5, 5, 7)).requires_grad_()
    torch.library.opcheck(torch.ops.sw_ops.stripe_conv2d_fused, (wider, *kernels[:2], bias, 4, False, *chosen))
    torch.library.opcheck(torch.ops.sw_ops.stripe_conv2d_input_grad, (*maps, *kernels, 4))
    torch.library.opcheck(torch.ops.sw_ops.stripe_conv2d_weight_grad, (x, *maps, 9, 3, 4))
    torch.library.opcheck(torch.ops.sw_ops.stripe_conv2d_backward, (*maps, x, *kernels, 4))


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
def test_the_number_of_threads_does_not_change_a_bit(memory: str) -> None:
    arguments = [t.float() for t in random_arguments(3, 37, 14, 19, 15, 3)]
    arguments[0] = MEMORY[memory](arguments[0])
    upstream = [torch.randn(arguments[0].shape, generator=seeded(1)) for _ in range(4)]
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append(outputs_and_gradients(arguments, 7, upstream))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert torch.equal(got, want)


def test_autocast_computes_in_its_dtype(backend: str) -> None:
    x, *kernels = (t.float() for t in random_arguments(2, 3, 5, 7, 9, 3))
    exact = stripe_conv2d(x, *kernels, 4)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        rounded = stripe_conv2d(x, *kernels, 4)
    for got, want in zip(rounded, exact, strict=True):
        assert got.dtype == torch.bfloat16
        assert_close_to_maximum(got, want, 3e-2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(3, 5, 7)}, ValueError, r"x: got shape \(3, 5, 7\), want \[batch, channels, height, width\]"),
        ({"x": torch.zeros(2, 3, 5, 7, dtype=torch.int32)}, TypeError, "x: got torch.int32, want a floating-point"),
        ({"horizontal": torch.zeros(4, 3, 9)}, ValueError, r"horizontal: got shape \(4, 3, 9\), want \[3, k, L\]"),
        ({"horizontal": torch.zeros(3, 9, 3)}, ValueError, r"vertical: got shape .* want \(3, 3, 9\)"),
        ({"vertical": torch.zeros(3, 8, 3)}, ValueError, r"vertical: got shape \(3, 8, 3\), want \(3, 9, 3\)"),
        ({"square": torch.zeros(3, 5, 5)}, ValueError, r"square: got shape \(3, 5, 5\), want \(3, 3, 3\)"),
        ({"anchor": 9}, ValueError, "anchor: got 9, want one of the 9 taps"),
        ({"vertical": torch.zeros(3, 9, 3).double()}, TypeError, "vertical: got torch.float64 on"),
        (
            {"horizontal": torch.zeros(3, 2, 9), "vertical": torch.zeros(3, 9, 2)},
            ValueError,
            r"horizontal: got k = 2, L = 9, want \[C, k, L\] with an odd k <= L",
        ),
    ],
)
def test_bad_inputs_are_named(change: dict, error: type[Exception], message: str, backend: str) -> None:
    arguments = {
        "x": torch.zeros(2, 3, 5, 7),
        "horizontal": torch.zeros(3, 3, 9),
        "vertical": torch.zeros(3, 9, 3),
        "square": torch.zeros(3, 3, 3),
        "anchor": 4,
    }
    with pytest.raises(error, match=message):
        stripe_conv2d(**(arguments | change))
