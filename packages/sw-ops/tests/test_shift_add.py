from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sw_ops import (
    ShiftTable,
    SlotValues,
    assemble_ninefold,
    assemble_stripes,
    position_embedding,
    shift_add,
    shift_add_ninefold,
    shiftwise_conv2d,
    stripe_conv2d,
)

from conftest import Golden, assert_close_to_maximum

GOLDEN = Golden("A_ops")


def cases(op: str) -> list[str]:
    return [key for key, case in GOLDEN.about["cases"].items() if case["op"] == op]


def published_table(key: str) -> ShiftTable:
    case, tensors = GOLDEN.about["cases"][key], GOLDEN.under(f"{key}/")
    identity = tensors["idx_identit"] if case["op"] != "mp_blur" else torch.zeros(case["C"], case["N_rep"])
    return ShiftTable.from_published(case["big_kernel"], case["small_kernel"], tensors["pad_hv"], identity)


def published_size(key: str) -> tuple[int, int]:
    return GOLDEN.about["cases"][key]["H"], GOLDEN.about["cases"][key]["W"]


def assert_published(key: str, outputs: tuple[torch.Tensor, ...], inputs: dict[str, torch.Tensor]) -> None:
    """Compare the three maps, and the gradients to the named inputs, with the golden ones."""
    tensors = GOLDEN.under(f"{key}/")
    for got, name in zip(outputs, ("h", "v", "id"), strict=True):
        assert_close_to_maximum(got, tensors[f"output_{name}"], 1e-5)
    upstream = [tensors[f"grad_output_{name}"] for name in ("h", "v", "id")]
    for name, grad in zip(inputs, torch.autograd.grad(outputs, list(inputs.values()), upstream), strict=True):
        assert_close_to_maximum(grad, tensors[f"grad_{name}"], 2e-5)


def leaf(key: str, name: str) -> torch.Tensor:
    return GOLDEN.tensors[f"{key}/{name}"].clone().requires_grad_()


@pytest.mark.parametrize("key", cases("mp"))
def test_the_published_operator(key: str) -> None:
    y = leaf(key, "input")
    assert_published(key, shift_add(y, published_table(key), published_size(key)), {"input": y})


@pytest.mark.parametrize("key", cases("mp"))
def test_the_published_operator_by_stripes(key: str, backend: str) -> None:
    """Every published plane is a channel here, and its own slot holds a kernel that copies it."""
    y, table = leaf(key, "input"), published_table(key)
    n, k, planes = table.slots, table.small_kernel, table.channels * table.slots
    of_planes = ShiftTable(table.kernel_size, k, *(t.repeat_interleave(n, 0) for t in slots_of(table)))
    copying = y.new_zeros(planes, n, 1, k, k)
    copying[torch.arange(planes), torch.arange(planes) % n, 0, k // 2, k // 2] = 1
    maps = shiftwise_conv2d(y, copying.flatten(0, 1), of_planes)
    height, width = published_size(key)
    e = (k - 1) - k // 2
    summed = [m[..., e : e + height, e : e + width].unflatten(1, (-1, n)).sum(2) for m in maps]
    assert_published(key, tuple(summed), {"input": y})


def slots_of(table: ShiftTable) -> tuple[torch.Tensor, ...]:
    return table.horizontal, table.vertical, table.identity


@pytest.mark.parametrize("key", cases("mp_linear"))
def test_the_published_learned_scales(key: str) -> None:
    y, table = leaf(key, "input"), published_table(key)
    scales = {name: leaf(key, name) for name in ("w1", "w2", "w3")}
    values = SlotValues.from_published(*scales.values(), n_rep=table.n_rep, slots=table.slots)
    outputs = shift_add(y, table, published_size(key), values)
    assert_published(key, outputs, {"input": y} | scales)


@pytest.mark.parametrize("key", cases("mp_embedding"))
def test_the_published_position_embedding(key: str) -> None:
    y, table = leaf(key, "input"), published_table(key)
    vectors = [GOLDEN.tensors[f"{key}/{name}"] for name in ("w1", "w2", "w3")]
    values = SlotValues.from_published(*vectors, n_rep=table.n_rep, slots=table.slots)
    maps = shift_add(y, table, published_size(key))
    added = position_embedding(table, values, published_size(key))
    assert_published(key, tuple(m + a for m, a in zip(maps, added, strict=True)), {"input": y})


@pytest.mark.parametrize("key", cases("mp_blur"))
def test_the_published_nine_offsets(key: str) -> None:
    y, table, size = leaf(key, "input"), published_table(key), published_size(key)
    neighbours = published_neighbours(key, table)
    h, v, _ = shift_add(y, table, size)
    assert_published(key, (h, v, shift_add_ninefold(y, neighbours, table.small_kernel, size)), {"input": y})


def published_neighbours(key: str, table: ShiftTable) -> torch.Tensor:
    idx_identit = GOLDEN.tensors[f"{key}/idx_identit"]
    return idx_identit.reshape(table.channels, table.slots, table.n_rep).transpose(1, 2).to(torch.int32)


@pytest.mark.parametrize("key", cases("v0"))
def test_the_published_single_path(key: str) -> None:
    case, tensors = GOLDEN.about["cases"][key], GOLDEN.under(f"{key}/")
    slots = (tensors["idxes"].reshape(case["C"], 1, case["nk"]) % case["nk"]).to(torch.int32)
    table = ShiftTable(case["big_kernel"], case["small_kernel"], slots, slots, slots[:, :, 0])
    y = leaf(key, "input")
    for got, direction in zip(shift_add(y, table, published_size(key)), ("horizontal", "vertical"), strict=False):
        assert_close_to_maximum(got, tensors[f"output_{direction}"], 1e-5)
        (grad,) = torch.autograd.grad(got, y, tensors["grad_output"], retain_graph=True)
        assert_close_to_maximum(grad, tensors[f"grad_input_{direction}"], 2e-5)


@pytest.mark.parametrize("size", [(14, 14), (5, 9), (1, 1)])
@pytest.mark.parametrize(("kernel_size", "small_kernel"), [(51, 3), (49, 3), (13, 3), (51, 5), (5, 5)])
def test_convolving_then_shifting_is_the_stripe_form(
    kernel_size: int, small_kernel: int, size: tuple[int, int], backend: str, generator: torch.Generator
) -> None:
    table = ShiftTable.shuffled(3, kernel_size, small_kernel, n_rep=4).to(torch.get_default_device())
    shape = (3 * table.slots, 1, small_kernel, small_kernel)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(3)]

    published = shift_add(F.conv2d(x, weight, padding=small_kernel - 1, groups=3), table, size)
    ours = shiftwise_conv2d(x, weight, table)
    for got, want in zip(ours, published, strict=True):
        assert_close_to_maximum(got, want, 1e-12)
    got_grads = torch.autograd.grad(ours, (x, weight), upstream)
    want_grads = torch.autograd.grad(published, (x, weight), upstream)
    for got, want in zip(got_grads, want_grads, strict=True):
        assert_close_to_maximum(got, want, 1e-12)


def test_scales_and_nine_offsets_are_assembled_into_the_kernels(backend: str, generator: torch.Generator) -> None:
    table = ShiftTable.shuffled(3, 13, 3, n_rep=2).to(torch.get_default_device())
    weight = torch.randn(3 * table.slots, 1, 3, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 3, 11, 8, generator=generator, dtype=torch.float64)
    y = F.conv2d(x, weight, padding=2, groups=3)
    scales = SlotValues(
        *(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 2, 5), (3, 2, 5), (3, 2)))
    )
    stripes = assemble_stripes(weight, table, scales)
    for got, want in zip(stripe_conv2d(x, *stripes, 13 // 2), shift_add(y, table, (11, 8), scales), strict=True):
        assert_close_to_maximum(got, want, 1e-12)

    neighbours = torch.randint(-1, 9, (3, 2, 5), generator=generator, dtype=torch.int32)
    kernel = assemble_ninefold(weight, neighbours)
    got = F.conv2d(x, kernel.unsqueeze(1), padding=4, groups=3)
    assert_close_to_maximum(got, shift_add_ninefold(y, neighbours, 3, (11, 8)), 1e-12)


def test_bad_inputs_are_named() -> None:
    table = ShiftTable.shuffled(2, 13, 3, n_rep=1).to(torch.get_default_device())
    with pytest.raises(ValueError, match=r"y: got shape \(1, 9, 6, 6\), want \[batch, 10, 6, 6\] for size \(4, 4\)"):
        shift_add(torch.zeros(1, 9, 6, 6), table, (4, 4))
    with pytest.raises(TypeError, match="y: got torch.int64, want a floating-point tensor"):
        shift_add(torch.zeros(1, 10, 6, 6, dtype=torch.int64), table, (4, 4))
