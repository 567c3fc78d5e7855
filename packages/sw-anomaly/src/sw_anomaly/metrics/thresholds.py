"""Thresholds that no test image moves: from scores of good training images and of synthetic defects on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.9  # with which a rate of false alarms is promised
STRENGTHS = np.linspace(0.25, 1, 16)  # of real defects: up to what is drawn, which is easier to see than most of them
SUSPICIOUS = 5.0  # medians of what lies above the median; of normal scores one in 2,700 is above
ENOUGH = 12  # good images that tell what is odd among them
MOST_PASSED = 0.8  # of wrong verdicts, by the threshold that follows from them if all are of one kind
MOST_MOVED = 3.0  # times the threshold before: what is farther away is no matter of thresholds
MOST_FALSE_ALARMS = 0.15  # of good training images, unless a lower rate is asked for


@dataclass(frozen=True)
class GoodScores:
    """What a detector says of the good training images; thresholds for any rate of false alarms follow from it.

    Attributes:
        scores: Of the images, held-out ones first.
        peaks: The highest values in their maps.
        held_out: How many of the images the detector was not fitted to.
        level: The median of the medians of the maps.
    """

    scores: tuple[float, ...]
    peaks: tuple[float, ...]
    held_out: int
    level: float

    def joined(self, other: GoodScores) -> GoodScores:
        """Add the scores of other images, held-out ones first, at the level of these."""
        pairs = ((self.scores, other.scores), (self.peaks, other.peaks))
        ours, theirs = self.held_out, other.held_out
        scores, peaks = (a[:ours] + b[:theirs] + a[ours:] + b[theirs:] for a, b in pairs)
        return GoodScores(scores, peaks, ours + theirs, self.level)

    def reached(self, threshold: float) -> int:
        """How many of the held-out images score this much."""
        return sum(score >= threshold for score in self.scores[: self.held_out])

    def promise(self, threshold: float) -> float:
        """Return the rate of false alarms that a threshold keeps with ``CONFIDENCE``, by the held-out images alone.

        The upper end of the one-sided interval of Clopper and Pearson, Biometrika 26 (1934).
        """
        count = self.reached(threshold)
        return float(stats.beta.ppf(CONFIDENCE, count + 1, self.held_out - count)) if count < self.held_out else 1.0


def images_needed(rate: float) -> int:
    """How many held-out good images, none of which reaches a threshold, promise a rate with ``CONFIDENCE``."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - rate))


def threshold_at(values: tuple[float, ...], rate: float) -> float:
    """Return the lowest threshold that keeps a rate of false alarms with ``CONFIDENCE``, whatever the distribution.

    If k of N independent images reach it, their true rate exceeds ``rate`` with the probability that a binomial number
    is at most k; where N is too small for any k, the threshold lies above all of them.

    Args:
        values: Scores of good images.
        rate: From 0 to 1.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float32))[::-1]
    allowed = [count for count in range(len(ordered)) if stats.binom.cdf(count, len(ordered), rate) <= 1 - CONFIDENCE]
    return float(np.nextafter(ordered[max(allowed, default=0)], np.float32(np.inf)))


def suspicious(scores: np.ndarray) -> list[int]:
    """Which of the good images look defective: they score far above the median, measured by the spread above it.

    Half of the higher half may be defective before the spread itself follows them.

    Args:
        scores: Of the good images, each judged as if it had not been seen, [N].

    Returns:
        Their numbers; none where there are fewer than ``ENOUGH`` images.
    """
    if len(scores) < ENOUGH:
        return []
    above = np.maximum(scores - np.median(scores), 0)
    spread = np.median(above[above > 0]) if above.any() else np.inf
    return np.flatnonzero(above > SUSPICIOUS * spread).tolist()


def balance(good: np.ndarray, defective: np.ndarray, origins: np.ndarray) -> float:
    """Return the threshold of highest balanced accuracy, good images counting as much as defective ones, however many.

    Defects that do not raise the score of their image say nothing about thresholds and are left out; of the others a
    part of what they raise it by counts, see ``STRENGTHS``. The threshold is not below what ``MOST_FALSE_ALARMS`` of
    the good images reach: one odd image among them does not move it.

    Args:
        good: Scores of good images, [N].
        defective: Scores of images with defects, [M].
        origins: Scores of the good images that the defects were drawn on, [M]; NaN for real defects, which count whole.
    """
    floor = float(np.quantile(good, 1 - MOST_FALSE_ALARMS))
    real = np.isnan(origins)
    seen = real | (defective > origins)
    if not seen.any():
        return floor
    base = np.where(real, defective, origins)[seen, None]
    found = np.sort((base + STRENGTHS * (defective[seen, None] - base)).ravel())
    good = np.sort(good)
    scores = np.unique(np.concatenate([good, found]))
    between = (scores[1:] + scores[:-1]) / 2 if len(scores) > 1 else scores
    missed = np.searchsorted(found, between) / len(found)
    false = 1 - np.searchsorted(good, between) / len(good)
    best = np.flatnonzero(missed + false <= (missed + false).min() + 1e-12)
    return max(float(between[best[len(best) // 2]]), floor)


def rebalance(threshold: float, false_alarms: Sequence[float], missed: Sequence[float], judged: int) -> float:
    """Return the threshold past some of the wrong verdicts that are more frequent, so that both kinds become rare.

    How many wrong verdicts there are is not known from a sample of them, but which kind is the more frequent one is.
    The threshold passes none if both are equally frequent, ``MOST_PASSED`` if all judged images are of one kind, and
    fewer, by the square, in between, for few verdicts tell little, and what it passes on its way turns wrong.

    Args:
        threshold: In force, above 0.
        false_alarms: Scores of good images that reach it.
        missed: Scores of defective images that do not.
        judged: Number of images that these are among; the more of the others, the less the threshold moves.
    """
    surplus = (len(false_alarms) - len(missed)) / judged
    if surplus == 0:
        return threshold
    side = false_alarms if surplus > 0 else missed
    steps = np.sort(np.abs(np.log(np.maximum(side, 1e-9) / threshold)))
    step = np.quantile([0.0, *np.minimum(steps, np.log(MOST_MOVED))], MOST_PASSED * surplus**2)
    return float(threshold * np.exp(np.sign(surplus) * step * (1 + 1e-6)))
