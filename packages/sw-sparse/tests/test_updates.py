import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw_sparse.updates import UPDATE_RULES, UpdateInput


def situation(active, importance=None, gradient=None, counts=None, fraction=0.3, seed=0):
    zeros = torch.zeros(active.shape)
    counts = active.sum(1) if counts is None else counts
    importance, gradient = (zeros if x is None else x for x in (importance, gradient))
    return UpdateInput(active, importance, gradient, counts, fraction, torch.Generator().manual_seed(seed))


@given(st.sampled_from(["set", "rigl"]), st.integers(1, 6), st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))
def test_the_number_of_units_of_every_block_stays_exact(rule, blocks, size, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(blocks, size, generator=generator) < 0.6
    importance, gradient = torch.rand(2, blocks, size, generator=generator)
    outcome = UPDATE_RULES[rule].apply(situation(active, importance, gradient, fraction=fraction, seed=seed))
    assert torch.equal(outcome.active.sum(1), active.sum(1))
    assert not (outcome.kept & ~active).any()
    assert not (outcome.kept & ~outcome.active).any()
    replaced = min(round(fraction * int(active.sum())), int((~active).sum()))
    assert int(outcome.kept.sum()) == int(active.sum()) - replaced


def test_drops_the_least_important_and_grows_the_steepest():
    active = torch.tensor([[True, True, True, False, False, False]])
    importance = torch.tensor([[5.0, 0.1, 4.0, 9.0, 9.0, 9.0]])
    gradient = torch.tensor([[0.0, 99.0, 0.0, 1.0, 3.0, 2.0]])
    outcome = UPDATE_RULES["rigl"].apply(situation(active, importance, gradient, fraction=0.34))
    assert outcome.active.tolist() == [[True, False, True, False, True, False]]


def test_random_growth_reaches_every_place_and_comes_from_the_generator():
    active = torch.tensor([[True] * 4 + [False] * 4])
    grown = [UPDATE_RULES["set"].apply(situation(active, seed=seed)).active for seed in range(60)]
    assert torch.stack(grown)[:, 0, 4:].any(0).all()
    again = UPDATE_RULES["set"].apply(situation(active, seed=7)).active
    assert torch.equal(again, grown[7])


def test_gradual_only_ever_removes():
    active = torch.ones(1, 10, dtype=torch.bool)
    outcome = UPDATE_RULES["gradual"].apply(situation(active, torch.arange(10.0)[None], counts=torch.tensor([4])))
    assert outcome.active.tolist() == [[False] * 6 + [True] * 4]
    assert torch.equal(outcome.kept, outcome.active)


def test_static_changes_nothing():
    active = torch.tensor([[True, False]])
    assert torch.equal(UPDATE_RULES["static"].apply(situation(active, fraction=1.0)).active, active)


@pytest.mark.parametrize("rule", ["set", "rigl"])
def test_a_dense_layer_stays_dense(rule):
    active = torch.ones(1, 5, dtype=torch.bool)
    assert UPDATE_RULES[rule].apply(situation(active, fraction=1.0)).active.all()


def test_rigl_lets_dropped_units_regrow_as_published_where_asked():
    now = UpdateInput(
        active=torch.tensor([[True, True, False, False]]),
        importance=torch.tensor([[1.0, 2.0, 0.0, 0.0]]),
        gradient=torch.tensor([[9.0, 0.0, 5.0, 1.0]]),
        counts=torch.tensor([2]),
        drop_fraction=0.5,
        generator=torch.Generator(),
    )
    rigl = UPDATE_RULES["rigl"].apply
    assert rigl(now).active.tolist() == [[False, True, True, False]]
    published = rigl(dataclasses.replace(now, regrow_dropped=True))
    assert published.active.tolist() == [[True, True, False, False]]
    assert published.kept.tolist() == [[True, True, False, False]]  # it keeps its value
