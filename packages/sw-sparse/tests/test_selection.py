import torch
from hypothesis import given
from hypothesis import strategies as st

from sw_sparse.selection import best, best_per_block


@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_selects_exactly_the_counts_asked_and_nothing_better_is_left(blocks, size, data):
    # Few distinct values: ties everywhere.
    scores = torch.tensor(
        data.draw(st.lists(st.lists(st.integers(0, 3), min_size=size, max_size=size), min_size=blocks, max_size=blocks))
    ).float()
    counts = torch.tensor(data.draw(st.lists(st.integers(0, size), min_size=blocks, max_size=blocks)))
    selected = best_per_block(scores, counts)
    assert selected.sum(1).tolist() == counts.tolist()
    for row, chosen in zip(scores, selected, strict=True):
        if chosen.any() and not chosen.all():
            assert row[chosen].min() >= row[~chosen].max()


@given(st.integers(1, 20), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]), st.data())
def test_best_takes_from_the_candidates_only(size, dtype, data):
    scores = torch.tensor(data.draw(st.lists(st.floats(-3, 3), min_size=size, max_size=size)), dtype=dtype)[None]
    among = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))[None]
    count = data.draw(st.integers(0, int(among.sum())))
    selected = best(scores, among, count)
    assert int(selected.sum()) == count
    assert not (selected & ~among).any()
    left = among & ~selected
    if count and left.any():
        assert scores[selected].min() >= scores[left].max()


@given(st.integers(2, 4), st.integers(2, 20), st.data())
def test_among_equal_scores_those_that_come_first_are_taken(blocks, size, data):
    scores = torch.tensor(
        data.draw(st.lists(st.lists(st.sampled_from([-torch.inf, 0.0, 1.0, torch.inf]), min_size=size, max_size=size),
                           min_size=blocks, max_size=blocks))
    )  # fmt: skip
    counts = torch.tensor(data.draw(st.lists(st.integers(0, size), min_size=blocks, max_size=blocks)))
    for row, count, chosen in zip(scores.tolist(), counts.tolist(), best_per_block(scores, counts), strict=True):
        wanted = sorted(range(size), key=lambda place: (-row[place], place))[:count]
        assert sorted(wanted) == chosen.nonzero().flatten().tolist()
