"""What a line would see of a detector: good parts that it stops, and defective ones that escape it.

At the threshold in force, and at the thresholds that would let 0, 1 or 2 % of one kind pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sw_anomaly.metrics.bootstrap import LEVEL, Interval, draw_weights

RATES = (0.0, 0.01, 0.02)
IN_FORCE = "at the threshold"


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does, with intervals over redraws of the tested images; NaN where there is no such image.

    Attributes:
        at: What the threshold was chosen by.
        false_alarms: Share of the good images that are called defective.
        escapes: Share of the defective images that are called good.
        false_alarms_interval: Its interval.
        escapes_interval: Its interval.
    """

    at: str
    false_alarms: float
    escapes: float
    false_alarms_interval: Interval
    escapes_interval: Interval


def operating_points(scores: np.ndarray, defective: np.ndarray, called: np.ndarray) -> tuple[OperatingPoint, ...]:
    """Measure the threshold in force, and the best ones that keep each of ``RATES``.

    A redraw of few images seldom holds their most extreme one, so the interval at a rate of 0 is too narrow.

    Args:
        scores: Of the tested images, [I].
        defective: Which of them are, bool [I].
        called: Which of them are called so, bool [I].

    Returns:
        The threshold in force, then those of escapes, then those of false alarms; where one kind of images is missing
        the first alone.
    """
    exact = _measure(scores, defective, called, np.ones((1, len(scores))))
    redrawn = _measure(scores, defective, called, draw_weights(defective))
    return tuple(
        OperatingPoint(at, float(false_alarms[0]), float(escapes[0]), *map(_interval, others))
        for (at, false_alarms, escapes), (_, *others) in zip(exact, redrawn, strict=True)
    )


def _measure(
    scores: np.ndarray, defective: np.ndarray, called: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of each point the rates of false alarms and of escapes, [B] each, for image weights [B, I]."""
    good, bad = weights * ~defective, weights * defective
    goods, bads = (kind.sum() or np.nan for kind in (~defective, defective))  # as many in every redraw
    yield IN_FORCE, good[:, called].sum(axis=1) / goods, bad[:, ~called].sum(axis=1) / bads
    if np.isnan(goods + bads):
        return
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))  # the last of each group of equal scores
    false, found = (np.cumsum(kind[:, order], axis=1)[:, ends] for kind in (good, bad))
    false_alarms = np.pad(false / goods, ((0, 0), (1, 0)))  # at falling thresholds, the first above all scores
    escapes = 1 - np.pad(found / bads, ((0, 0), (1, 0)))
    rows = np.arange(len(weights))
    for rate in RATES:
        first = np.argmax(escapes <= rate + 1e-9, axis=1)
        yield f"at most {100 * rate:g} % escapes", false_alarms[rows, first], escapes[rows, first]
    for rate in RATES:
        last = (false_alarms <= rate + 1e-9).sum(axis=1) - 1
        yield f"at most {100 * rate:g} % false alarms", false_alarms[rows, last], escapes[rows, last]


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
