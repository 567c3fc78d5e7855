"""Thresholds: rates that are promised are kept, and neither odd images nor defects that nobody sees move them much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sw_anomaly.metrics.thresholds import (
    CONFIDENCE,
    GoodScores,
    balance,
    images_needed,
    rebalance,
    suspicious,
    threshold_at,
)


def draw(kind, rng, size):
    return {
        "normal": lambda: 30 + rng.normal(size=size),
        "skewed": lambda: np.exp(rng.normal(size=size)),
        "of few values": lambda: rng.integers(0, 6, size).astype(float),
    }[kind]()


@pytest.mark.parametrize("kind", ["normal", "skewed", "of few values"])
@pytest.mark.parametrize(
    ("count", "rate"),
    [(64, 0.1), pytest.param(114, 0.02, marks=pytest.mark.slow), pytest.param(200, 0.05, marks=pytest.mark.slow)],
)
def test_a_rate_is_kept_on_fresh_images_as_often_as_is_said(kind, count, rate):
    rng = np.random.default_rng(0)
    fresh = draw(kind, rng, 20_000)
    kept = [(fresh >= threshold_at(tuple(draw(kind, rng, count)), rate)).mean() <= rate for _ in range(400)]
    assert np.mean(kept) > CONFIDENCE - 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / 400)


def test_no_lower_threshold_would_keep_the_rate():
    scores = tuple(np.linspace(0, 1, 200).tolist())
    threshold = threshold_at(scores, 0.05)
    reached = int((np.array(scores) >= threshold).sum())
    assert stats.binom.cdf(reached, 200, 0.05) <= 1 - CONFIDENCE < stats.binom.cdf(reached + 1, 200, 0.05)


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.1])
def test_the_number_of_images_that_a_rate_takes_is_the_least(rate):
    for count, enough in ((images_needed(rate), True), (images_needed(rate) - 1, False)):
        good = GoodScores((0.5,) * count, (0.5,) * count, count, 0.0)
        assert (good.promise(0.6) <= rate) == enough


def test_a_promise_is_made_by_held_out_images_alone():
    good = GoodScores((0.1, 0.2, 0.9, 0.9), (1.0,) * 4, 2, 0.0)
    assert good.reached(0.5) == 0
    assert good.promise(0.5) == pytest.approx(1 - (1 - CONFIDENCE) ** 0.5)
    assert good.promise(0.0) == 1


def test_the_threshold_lies_in_the_gap_if_there_is_one():
    threshold = balance(np.array([1.0, 2.0, 3.0]), np.array([41.0, 51.0]), np.array([1.0, 3.0]))
    assert 3 < threshold < 1 + 40 / 4


def test_defects_that_do_not_show_do_not_count():
    rng = np.random.default_rng(0)
    good = rng.normal(30, 1, 64)
    defective = np.concatenate([rng.normal(45, 2, 64), good - 1e-3])
    origins = np.concatenate([good, good])
    blind = np.r_[np.zeros(64, dtype=bool), np.ones(64, dtype=bool)]
    assert balance(good, defective, origins) == balance(good, defective[~blind], origins[~blind])
    assert (good >= balance(good, good - 1e-3, good)).mean() <= 0.16  # not one can be seen


def test_synthetic_defects_that_cannot_be_learned_do_not_raise_false_alarms():
    rng = np.random.default_rng(0)
    for _ in range(20):
        good = rng.normal(30, 1, 64)
        defective = good + rng.normal(0, 0.3, 64)  # half of them are seen, hardly
        assert (rng.normal(30, 1, 10_000) >= balance(good, defective, good)).mean() < 0.3


def test_an_odd_image_among_the_good_ones_does_not_make_misses_explode():
    rng = np.random.default_rng(1)
    good = rng.normal(30, 1, 30)
    odd = good.copy()
    odd[7] = 60
    defective, real = good + rng.uniform(5, 20, 30), rng.normal(37, 3, 1000)
    before, after = (balance(scores, defective, good) for scores in (good, odd))
    assert (real < after).mean() <= (real < before).mean() + 0.05


def test_real_defects_count_whole():
    good, real = np.arange(10.0), np.array([30.0, 40.0])
    assert 9 < balance(good, real, np.full(2, np.nan)) < 30
    assert balance(good, real, np.full(2, np.nan)) == pytest.approx((9 + 30) / 2)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2])
def test_images_that_score_far_above_the_others_are_suspicious(share):
    rng = np.random.default_rng(0)
    scores = rng.normal(30, 1, 200)
    odd = rng.permutation(200)[: round(200 * share)]
    scores[odd] += rng.uniform(8, 30, len(odd))
    assert set(suspicious(scores)) == set(odd)


def test_hardly_any_image_is_suspicious_where_all_are_good():
    rng = np.random.default_rng(0)
    assert np.mean([len(suspicious(rng.normal(30, 1, 100))) / 100 for _ in range(200)]) < 0.005
    assert suspicious(np.full(50, 3.0)) == []
    assert suspicious(np.array([1.0, 2.0, 90.0])) == []  # too few to tell


@given(st.lists(st.floats(1.01, 9), max_size=6), st.lists(st.floats(0.1, 0.99), max_size=6), st.integers(0, 5))
def test_wrong_verdicts_draw_the_threshold_to_the_side_that_has_more_of_them(false_alarms, missed, right):
    found = rebalance(1.0, false_alarms, missed, len(false_alarms) + len(missed) + right + 1)
    assert (found > 1) == (len(false_alarms) > len(missed))
    assert (found < 1) == (len(false_alarms) < len(missed))
    assert min([1.0, *missed]) <= found * (1 + 1e-5)
    assert found <= max([1.0, *false_alarms]) * (1 + 1e-5)


def test_of_five_wrong_verdicts_of_one_kind_four_are_passed_and_of_single_ones_none():
    scores = [1.1, 1.2, 1.5, 2.0, 5.0]
    assert sum(score >= rebalance(1.0, scores, [], 5) for score in scores) == 1
    missed = [1 / score for score in scores]
    assert sum(score < rebalance(1.0, [], missed, 5) for score in missed) == 1
    assert rebalance(1.0, [9.0], [], 5) < 1.1
    assert rebalance(1.0, [90.0] * 5, [], 5) < 3.1  # a threshold that would be far away is not taken
