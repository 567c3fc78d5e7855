from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw_ops import ChannelSplit, ShiftTable, slot_count, slot_offsets

from conftest import Golden

GOLDEN = Golden("B_tables", device="cpu")
TABLES = GOLDEN.about["shift_tables"]
SPLITS = [key.removesuffix("/rep") for key in GOLDEN.tensors if key.endswith("/rep")]


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    """Tables are drawn there, wherever the operators are under test."""
    with torch.device("cpu"):
        yield


@pytest.mark.parametrize("key", TABLES)
def test_published_tables_are_reproduced_exactly(key: str) -> None:
    case = TABLES[key]
    table = ShiftTable.shuffled(case["c_out"], case["big_kernel"], case["small_kernel"], case["N_rep"])
    pad_hv, idx_identit = table.to_published()
    assert slot_offsets(case["big_kernel"], case["small_kernel"]) == case["shift_list"]
    assert torch.equal(pad_hv, GOLDEN.tensors[f"{key}/pad_hv"])
    assert torch.equal(idx_identit, GOLDEN.tensors[f"{key}/idx_identit"])


@pytest.mark.parametrize("key", SPLITS)
def test_published_splits_are_reproduced_exactly(key: str) -> None:
    _, version, sizes = key.split("/")
    channels, ratio = sizes.removeprefix("C").split("_ratio")
    split = ChannelSplit.published(int(channels), float(ratio), even=version == "v2")
    assert torch.equal(split.rep, GOLDEN.tensors[f"{key}/rep"].long())
    assert torch.equal(split.ghost, GOLDEN.tensors[f"{key}/ghost"].long())


@given(
    channels=st.integers(1, 6),
    kernel_size=st.integers(3, 60),
    small_kernel=st.sampled_from([1, 3, 5, 7]),
    n_rep=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
def test_every_shuffle_holds_every_slot_once(
    channels: int, kernel_size: int, small_kernel: int, n_rep: int, seed: int
) -> None:
    kernel_size = max(kernel_size, small_kernel)
    table = ShiftTable.shuffled(channels, kernel_size, small_kernel, n_rep, seed)
    n = slot_count(kernel_size, small_kernel)
    every = torch.arange(n, dtype=torch.int32).expand(channels, n_rep, n)
    assert torch.equal(table.horizontal.sort(dim=2).values, every)
    assert torch.equal(table.vertical.sort(dim=2).values, every)
    assert bool(((table.identity >= 0) & (table.identity < n)).all())

    again = ShiftTable.from_published(kernel_size, small_kernel, *table.to_published())
    for field in ("horizontal", "vertical", "identity"):
        assert torch.equal(getattr(again, field), getattr(table, field))


def test_drawing_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state()
    ShiftTable.shuffled(7, 29, 3, 2)
    ChannelSplit.published(33, 0.3)
    assert torch.equal(torch.get_rng_state(), before)


def test_tables_do_not_share_memory() -> None:
    first = ShiftTable.shuffled(4, 13, 3, 2)
    untouched = copy.deepcopy(first)
    ShiftTable.shuffled(4, 13, 3, 2).horizontal.zero_()
    assert torch.equal(ShiftTable.shuffled(4, 13, 3, 2).horizontal, untouched.horizontal)


def test_tables_are_drawn_on_the_cpu_whatever_the_default_device() -> None:
    expected = ShiftTable.shuffled(3, 31, 3, 2, seed=9)
    with torch.device("meta"):
        table = ShiftTable.shuffled(3, 31, 3, 2, seed=10)
    assert table.horizontal.device.type == "cpu"
    assert not torch.equal(table.horizontal, expected.horizontal)


@given(channels=st.integers(4, 200), ratio=st.floats(0, 0.5))
def test_a_split_holds_every_channel_once(channels: int, ratio: float) -> None:
    split = ChannelSplit.published(channels, ratio)
    assert torch.equal(torch.cat([split.rep, split.ghost]).sort().values, torch.arange(channels))
    assert len(split.ghost) >= int(channels * ratio)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 3), "kernel_size: got 2, want at least small_kernel = 3"),
        ((51, 4), "small_kernel: got 4, want a positive odd number"),
        ((51, 0), "small_kernel: got 0, want a positive odd number"),
    ],
)
def test_bad_kernel_sizes_are_named(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slot_count(*arguments)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2])
def test_bad_ghost_ratio_is_named(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"ghost_ratio: got .* want a number in \[0, 1\)"):
        ChannelSplit.published(16, ratio)


def test_tables_of_the_wrong_shape_are_named() -> None:
    good = ShiftTable.shuffled(4, 13, 3, 2)
    with pytest.raises(ValueError, match=r"horizontal: got shape \(4, 2, 5\), want \[channels, n_rep, 17\]"):
        ShiftTable(51, 3, good.horizontal, good.vertical, good.identity)
    with pytest.raises(ValueError, match="vertical: got shape"):
        ShiftTable(13, 3, good.horizontal, good.vertical[:2], good.identity)
    with pytest.raises(ValueError, match="identity: got shape"):
        ShiftTable(13, 3, good.horizontal, good.vertical, good.identity[:2])


@given(channels=st.integers(4, 20), ratio=st.sampled_from([0.0, 0.23, 0.5]), drawn=st.randoms())
def test_narrowed_splits_put_all_channels_out_in_the_same_places(channels: int, ratio: float, drawn: Random) -> None:
    split = ChannelSplit.published(channels, ratio)
    narrowed = split
    for _ in range(2):
        keep = torch.tensor([drawn.random() < 0.6 for _ in narrowed.rep], dtype=torch.bool)
        expected, narrowed = narrowed.rep[keep], narrowed.narrowed(keep)
        assert torch.equal(narrowed.rep, expected)
        assert torch.equal(torch.cat([narrowed.rep, narrowed.ghost]).sort().values, torch.arange(channels))
        assert torch.equal(narrowed.outputs, split.outputs)
