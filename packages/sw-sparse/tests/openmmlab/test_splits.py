import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sw_sparse.openmmlab.splits import split_named, stratify

SHARES = {"train": 0.8, "val": 0.2}


@given(st.lists(st.frozensets(st.integers(0, 5), max_size=3), min_size=2, max_size=60), st.integers(0, 9))
def test_every_sample_is_in_one_split_and_none_is_empty(labels, seed):
    found = stratify(labels, SHARES, seed)
    assert len(found) == len(labels)
    assert set(found) == {"train", "val"}
    assert found == stratify(labels, SHARES, seed)


def test_a_rare_class_is_in_both_splits():
    """Five of 200 samples have it; a split by chance would often have all of them in training."""
    for seed in range(20):
        labels = [{"common"} | ({"rare"} if i < 5 else set()) for i in range(200)]
        found = stratify(labels, SHARES, seed)
        assert sorted(found[:5]) == ["train"] * 4 + ["val"]
        assert abs(found.count("val") - 40) <= 2


def test_seeds_differ():
    labels = [{"a"}] * 50
    assert len({tuple(stratify(labels, SHARES, seed)) for seed in range(5)}) == 5
    counts = np.array([stratify(labels, SHARES, seed).count("val") for seed in range(5)])
    assert (counts == 10).all()


def test_usual_names_of_splits():
    assert [split_named(name) for name in ("Train", "valid", "validation", "testing", "images")] == [
        "train", "val", "val", "test", None,
    ]  # fmt: skip
