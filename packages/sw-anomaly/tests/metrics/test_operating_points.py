"""What a line sees: false alarms and escapes, as a brute force over all thresholds counts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw_anomaly.metrics.operating_points import IN_FORCE, RATES, operating_points


def brute_force(scores, defective, rate, kept):
    """The lowest rate of the other kind among all thresholds at which ``kept`` is at most ``rate``."""
    best = []
    for threshold in [*np.unique(scores), np.inf]:
        called = scores >= threshold
        rates = {"false alarms": called[~defective].mean(), "escapes": (~called[defective]).mean()}
        if rates[kept] <= rate + 1e-9:
            best.append(rates["escapes" if kept == "false alarms" else "false alarms"])
    return min(best)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=60))
def test_points_are_the_best_of_all_thresholds(images):
    scores = np.array([float(score) for score, _ in images])
    defective = np.array([kind for _, kind in images])
    defective[:2] = True, False
    points = {point.at: point for point in operating_points(scores, defective, scores >= 5)}
    assert points[IN_FORCE].false_alarms == pytest.approx((scores[~defective] >= 5).mean())
    assert points[IN_FORCE].escapes == pytest.approx((scores[defective] < 5).mean())
    for rate in RATES:
        at = points[f"at most {100 * rate:g} % escapes"]
        assert at.false_alarms == pytest.approx(brute_force(scores, defective, rate, "escapes"))
        assert at.escapes <= rate + 1e-9
        at = points[f"at most {100 * rate:g} % false alarms"]
        assert at.escapes == pytest.approx(brute_force(scores, defective, rate, "false alarms"))
        assert at.false_alarms <= rate + 1e-9


def test_intervals_hold_the_rate_and_narrow_with_more_images():
    rng = np.random.default_rng(0)
    widths = []
    for count in (50, 800):
        scores, defective = rng.normal(size=2 * count), np.arange(2 * count) % 2 == 0
        in_force = operating_points(scores + 2 * defective, defective, scores + 2 * defective >= 1)[0]
        low, high = in_force.false_alarms_interval
        assert low <= in_force.false_alarms <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_without_good_images_there_are_no_false_alarms_to_count():
    (point,) = operating_points(np.array([1.0, 2.0]), np.array([True, True]), np.array([False, True]))
    assert np.isnan([point.false_alarms, *point.false_alarms_interval]).all()
    assert point.escapes == 0.5
