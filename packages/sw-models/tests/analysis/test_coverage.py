import pytest
import torch

from sw_models.analysis.coverage import plane_use, used_share
from sw_ops import ShiftTable, shift_add


@pytest.mark.parametrize(("kernel_size", "small_kernel", "size"), [(51, 3, 7), (13, 3, 7), (13, 5, 6), (7, 3, 9)])
def test_use_is_the_gradient_of_the_published_operator(kernel_size, small_kernel, size):
    table = ShiftTable.shuffled(2, kernel_size, small_kernel, 2)
    plane = size + small_kernel - 1
    y = torch.zeros(1, 2 * table.slots, plane, plane, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sum(m.sum() for m in shift_add(y, table, (size, size))), y)
    assert torch.equal(plane_use(table, size).double(), gradient.view(2, table.slots, plane, plane))


def test_shuffles_make_more_use_of_the_planes():
    shares = [used_share(47, 3, 14, n, shuffled=True) for n in (1, 2, 4)]
    assert used_share(47, 3, 14, 4, shuffled=False) < shares[0] < shares[1] < shares[2] <= 1
