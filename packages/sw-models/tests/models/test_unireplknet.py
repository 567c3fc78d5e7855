import pytest
import torch
import torch.nn.functional as F

from sw_models.models.unireplknet import DilatedReparamConv2d, UniRepLKNetBlock


def randomise(module):
    for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
        torch.nn.init.uniform_(tensor, 0.5, 1.5)


@torch.no_grad()
def test_dilated_branches_merge_into_one_dense_kernel(seeded):
    layer = DilatedReparamConv2d(3, 13, dtype=torch.float64).eval()
    randomise(layer)
    x = torch.randn(2, 3, 17, 9, dtype=torch.float64)
    expected = 0
    for conv, norm in layer.branches:
        reach = conv.dilation[0] * (conv.kernel_size[0] - 1)
        expected = expected + norm(F.conv2d(x, conv.weight, padding=reach // 2, dilation=conv.dilation, groups=3))
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.fuse()(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("kernel_size", [13, 3])
def test_deployed_block_equals_the_block(kernel_size, seeded):
    block = UniRepLKNetBlock(8, kernel_size, dtype=torch.float64).eval()
    randomise(block)
    x = torch.randn(2, 8, 15, 10, dtype=torch.float64)
    expected = block(x)
    deployed = block.fuse()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in deployed.modules())
    torch.testing.assert_close(deployed(x), expected)


def test_an_unknown_large_kernel_is_named():
    with pytest.raises(ValueError, match="kernel_size: got 15, want one of"):
        DilatedReparamConv2d(4, 15)
