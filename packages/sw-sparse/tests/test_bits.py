import torch
from hypothesis import given
from hypothesis import strategies as st

from sw_sparse.bits import pack_bits, unpack_bits


@given(st.integers(1, 70), st.integers(1, 3))
def test_bits_come_back_as_they_were(size, blocks):
    mask = torch.rand(blocks, size, generator=torch.Generator().manual_seed(size)) < 0.5
    bits = pack_bits(mask)
    assert bits.dtype == torch.uint8
    assert len(bits) == -(-mask.numel() // 8)
    assert torch.equal(unpack_bits(bits, mask), mask)
