from __future__ import annotations

import pytest
import torch

from sw_ops import ShiftTable, assemble_stripes

from conftest import assert_close_to_maximum


def placed_one_by_one(weight: torch.Tensor, table: ShiftTable) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n, k, channels = table.slots, table.small_kernel, table.channels
    horizontal = torch.zeros(channels, k, n * k, dtype=weight.dtype)
    vertical = torch.zeros(channels, n * k, k, dtype=weight.dtype)
    square = torch.zeros(channels, k, k, dtype=weight.dtype)
    for c in range(channels):
        for g in range(table.n_rep):
            for j in range(n):
                horizontal[c, :, j * k : (j + 1) * k] += weight[c * n + int(table.horizontal[c, g, j]), 0]
                vertical[c, j * k : (j + 1) * k, :] += weight[c * n + int(table.vertical[c, g, j]), 0]
            square[c] += weight[c * n + int(table.identity[c, g]), 0]
    return horizontal, vertical, square


@pytest.mark.parametrize(("kernel_size", "small_kernel"), [(51, 3), (49, 3), (13, 3), (51, 5), (3, 3), (7, 1)])
def test_slots_stand_where_the_table_says(kernel_size: int, small_kernel: int, generator: torch.Generator) -> None:
    table = ShiftTable.shuffled(3, kernel_size, small_kernel, n_rep=4, seed=5).to(torch.get_default_device())
    shape = (3 * table.slots, 1, small_kernel, small_kernel)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    for got, want in zip(assemble_stripes(weight, table), placed_one_by_one(weight, table), strict=True):
        assert_close_to_maximum(got, want, 1e-14)


def test_gradient(generator: torch.Generator) -> None:
    table = ShiftTable.shuffled(2, 13, 3, n_rep=3).to(torch.get_default_device())
    weight = torch.randn(2 * 5, 1, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: assemble_stripes(w, table), (weight,))


def test_autocast_does_not_round_the_taps(generator: torch.Generator) -> None:
    table = ShiftTable.shuffled(2, 13, 3, n_rep=3).to(torch.get_default_device())
    weight = torch.randn(2 * 5, 1, 3, 3, generator=generator)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        inside = assemble_stripes(weight, table)
    for got, want in zip(inside, assemble_stripes(weight, table), strict=True):
        assert got.dtype == torch.float32
        assert torch.equal(got, want)


def test_wrong_weight_is_named() -> None:
    table = ShiftTable.shuffled(2, 13, 3, n_rep=3).to(torch.get_default_device())
    with pytest.raises(ValueError, match=r"weight: got shape \(9, 1, 3, 3\), want \(10, 1, 3, 3\)"):
        assemble_stripes(torch.zeros(9, 1, 3, 3), table)
