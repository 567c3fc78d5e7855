import pytest
import torch
import torch.nn.functional as F

from sw_models.models.slak import StripedConv2d, slots_to_stripe, stripe_to_slots
from sw_ops import ShiftTable, shiftwise_conv2d


def ordered_table(channels, kernel_size, small_kernel):
    """One shuffle that leaves every slot in its place."""
    n = -(-kernel_size // small_kernel)
    order = torch.arange(n, dtype=torch.int16).expand(channels, 1, n).clone()
    return ShiftTable(kernel_size, small_kernel, order, order, torch.zeros(channels, 1, dtype=torch.int16))


@pytest.mark.parametrize(("kernel_size", "small_kernel"), [(51, 5), (49, 5), (13, 5), (51, 3), (5, 5)])
def test_a_stripe_is_a_shiftwise_layer_with_ordered_slots(kernel_size, small_kernel, backend, seeded):
    kernel = torch.randn(3, small_kernel, kernel_size, dtype=torch.float64)
    x = torch.randn(2, 3, 9, 14, dtype=torch.float64)
    weight = stripe_to_slots(kernel)
    h, _, _ = shiftwise_conv2d(x, weight, ordered_table(3, kernel_size, small_kernel))
    padding = (small_kernel // 2, kernel_size // 2)
    torch.testing.assert_close(h, F.conv2d(x, kernel.unsqueeze(1), padding=padding, groups=3))
    assert torch.equal(slots_to_stripe(weight, kernel_size), kernel)
    _, v, _ = shiftwise_conv2d(x, weight.mT, ordered_table(3, kernel_size, small_kernel))
    torch.testing.assert_close(v, F.conv2d(x, kernel.mT.unsqueeze(1), padding=padding[::-1], groups=3))


def test_slots_that_reach_further_than_the_stripe_are_refused():
    with pytest.raises(ValueError, match="kernel_size: the slots reach further than 51 columns"):
        slots_to_stripe(torch.ones(11, 1, 5, 5), 51)


@torch.no_grad()
@pytest.mark.parametrize("kernel_size", [51, 13, 5])
def test_fused_layer_equals_the_three_convolutions(kernel_size, backend, seeded):
    layer = StripedConv2d(4, kernel_size, 5, dtype=torch.float64).eval()
    for norm in (layer.norm_horizontal, layer.norm_vertical, layer.norm_square):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    x = torch.randn(2, 4, 11, 7, dtype=torch.float64)
    long, short = kernel_size // 2, 2
    expected = (
        layer.norm_horizontal(F.conv2d(x, layer.horizontal.unsqueeze(1), padding=(short, long), groups=4))
        + layer.norm_vertical(F.conv2d(x, layer.vertical.unsqueeze(1), padding=(long, short), groups=4))
        + layer.norm_square(F.conv2d(x, layer.square.unsqueeze(1), padding=short, groups=4))
    )
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.fuse()(x), expected)


def test_an_even_kernel_is_named():
    with pytest.raises(ValueError, match="kernel_size: got 50, want an odd number"):
        StripedConv2d(4, 50, 5)
