"""``nearest_distances`` is the smallest distance to what is remembered nearby, whatever computes it."""

import pytest
import torch
from torch import Tensor

from sw_ops import nearest_distances, use_backend

NAMES = ("points", "memory", "squares", "rows", "columns")
SIZES = {  # height, width, K, columns and rows of the memory, N, strips, J, I
    "one place": (1, 1, 1, 1, 1, 16, 1, 1, 1),
    "high strips": (29, 2, 5, 3, 4, 16, 1, 2, 2),
    "a last strip that is lower": (10, 3, 7, 4, 6, 32, 3, 5, 2),
    "a strip without rows": (5, 2, 3, 2, 2, 16, 4, 1, 1),
    "many remembered": (8, 4, 40, 5, 9, 208, 1, 3, 3),
    "nothing near": (4, 3, 2, 2, 2, 16, 2, 0, 2),
    "no rows": (0, 3, 2, 2, 2, 16, 1, 2, 2),
}


def arguments(h: int, w: int, depth: int, c: int, r: int, n: int, strips: int, near_rows: int, near_columns: int):
    """Random arguments, of which some descriptions do not count."""
    generator = torch.Generator().manual_seed(1)
    memory = torch.randn(c, r, depth, n, generator=generator).half()
    squares = memory.float().square().sum(2)
    squares[..., n - 3 :] = torch.inf
    rows = torch.randint(r, (strips, near_rows), generator=generator)
    columns = torch.randint(c, (w, near_columns), generator=generator)
    return [torch.randn(h, w, depth, generator=generator), memory, squares, rows, columns]


def by_the_formula(points: Tensor, memory: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The formula of the docstring, one distance after the other."""
    y = torch.full(points.shape[:2], torch.inf, dtype=torch.float64)
    height = -(-points.shape[0] // rows.shape[0])
    for h, w in [(h, w) for h in range(points.shape[0]) for w in range(points.shape[1])]:
        for r in rows[h // height]:
            for c in columns[w]:
                apart = points[h, w, :, None].double() - memory[c, r].double()
                y[h, w] = min([y[h, w], *apart.square().sum(0)[squares[c, r].isfinite()]])
    return y


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@torch.no_grad()
def test_the_kernel_is_the_formula(sizes, threads, instruction_set):
    given = arguments(*sizes)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = torch.ops.sw_ops.nearest_distances(*given)
    finally:
        torch.set_num_threads(before)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), by_the_formula(*given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_pytorchs_operators_are_the_formula(sizes):
    with use_backend("torch"):
        found = nearest_distances(*arguments(*sizes))
    torch.testing.assert_close(found.double(), by_the_formula(*arguments(*sizes)), rtol=1e-5, atol=1e-5)


def test_what_is_remembered_has_no_distance(backend):
    given = arguments(*SIZES["many remembered"])
    given[0][2, 1] = given[1][given[4][1, 0], given[3][0, 1], :, 5]
    found = nearest_distances(*given)
    assert found[2, 1] < 1e-4
    assert (found >= 0).all()


def test_a_nan_stays_in_its_place(backend):
    given = arguments(*SIZES["many remembered"])
    given[0][2, 1, 3] = torch.nan
    found = nearest_distances(*given)
    assert found[2, 1].isnan()
    assert found.isnan().sum() == 1


def test_gradients_of_points(backend):
    points, *rest = arguments(*SIZES["a last strip that is lower"])
    points.requires_grad_()
    nearest_distances(points, *rest).sum().backward()
    moved = points.detach() - 1e-3 * points.grad
    lower = by_the_formula(points.detach(), *rest).sum() - by_the_formula(moved, *rest).sum()
    assert lower == pytest.approx(1e-3 * points.grad.square().sum().item(), rel=0.01)


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_what_does_not_fit_is_named(index):
    given = arguments(*SIZES["a last strip that is lower"])
    for wrong in (given[index][..., None], given[index].to(torch.int32), given[index][..., :-1]):
        if NAMES[index] in ("rows", "columns") and wrong.ndim == 2 and wrong.dtype == torch.int64:
            continue  # of these there may be any number
        with pytest.raises((ValueError, TypeError), match="got "):
            nearest_distances(*given[:index], wrong, *given[index + 1 :])
    with pytest.raises(ValueError, match=r"^rows: got shape \(0, 5\), want \[strips, J\] with a strip or more"):
        nearest_distances(*given[:3], given[3][:0], given[4])


@pytest.mark.parametrize("number", [-1, 99])
@pytest.mark.parametrize("name", ["rows", "columns"])
def test_places_that_the_memory_does_not_have_are_refused(name, number, backend):
    given = arguments(*SIZES["a last strip that is lower"])
    given[NAMES.index(name)][1, 0] = number
    with pytest.raises(IndexError, match=f"^{name}: got {number}, want numbers of the memory's "):
        nearest_distances(*given)


def test_the_operator_passes_pytorchs_checks():
    torch.library.opcheck(torch.ops.sw_ops.nearest_distances.default, tuple(arguments(*SIZES["many remembered"])))
