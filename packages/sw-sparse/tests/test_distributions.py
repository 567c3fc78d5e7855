import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw_sparse.distributions import erk, kept_in_total, snip, uniform

LAYERS = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 3)), min_size=1
)


def sizes_of(shapes):
    return {name: math.prod(shape) for name, shape in shapes.items()}


def check(counts, sizes, density):
    assert counts.keys() == sizes.keys()
    assert all(1 <= counts[name] <= sizes[name] for name in sizes)
    assert sum(counts.values()) == round(density * sum(sizes.values()))


@given(LAYERS, st.floats(0.3, 1))
def test_every_distribution_keeps_the_density_to_the_entry(shapes, density):
    sizes = sizes_of(shapes)
    if round(density * sum(sizes.values())) < len(sizes):
        with pytest.raises(ValueError, match="at least one for each"):
            kept_in_total(sizes, density)
        return
    generator = torch.Generator().manual_seed(0)
    check(uniform(sizes, density), sizes, density)
    check(erk(sizes, shapes, density), sizes, density)
    check(snip({n: torch.rand(s, generator=generator) for n, s in sizes.items()}, density), sizes, density)


def test_uniform_is_even():
    assert uniform({"a": 100, "b": 1000}, 0.3) == {"a": 30, "b": 300}


def test_erk_keeps_small_layers_denser_and_never_over_dense():
    shapes = {"small": (4, 4), "large": (64, 64)}
    counts = erk(sizes_of(shapes), shapes, 0.5)
    assert counts["small"] == 16
    assert counts["large"] == round(0.5 * (16 + 4096)) - 16


def test_erk_follows_its_formula_where_nothing_is_dense():
    shapes = {"a": (100, 50), "b": (200, 100)}
    counts = erk(sizes_of(shapes), shapes, 0.1)
    ratio = (counts["a"] / 5000) / (counts["b"] / 20000)
    assert ratio == pytest.approx((150 / 5000) / (300 / 20000), rel=0.01)


def test_snip_counts_the_highest_scores_of_all_layers():
    scores = {"a": torch.tensor([9.0, 8.0, 7.0, 1.0]), "b": torch.tensor([6.0, 2.0, 0.0, 0.0])}
    assert snip(scores, 0.5) == {"a": 3, "b": 1}


def test_snip_leaves_no_layer_empty():
    assert snip({"a": torch.ones(9), "b": torch.zeros(9)}, 0.5) == {"a": 8, "b": 1}
