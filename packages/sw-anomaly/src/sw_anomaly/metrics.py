"""How well scores tell defective from good: ROC, precision-recall and per-region overlap, all exact.

Everything follows from where the positives stand among the negatives. Put the scores in descending order
and walk down: at a positive with score s the false-positive rate has risen to `above`, the fraction of the
negatives that score more than s, and while s itself (and what ties with it) is passed it rises to `reached`,
the fraction that scores at least s. So a positive contributes to the true-positive rate a ramp from `above`
to `reached`, and the area under ROC is the mean area under the ramps: two sorts and a look-up, no loop over
thresholds. Averaged within each defective region first, the same ramps give the per-region overlap (PRO) of
Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

PRO_LIMIT = 0.3  # the false-positive rate up to which the MVTec AD papers integrate
CURVE_FPR = np.linspace(0, 1, 501)  # where curves are sampled for drawing
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


class Ranking:
    """The standing of positive scores among negative ones; both are 1-D and free of NaN.

    Areas and rates are NaN where there is no positive or no negative.
    """

    def __init__(self, positives: np.ndarray, negatives: np.ndarray) -> None:
        for name, scores in (("positives", positives), ("negatives", negatives)):
            if np.isnan(scores).any():
                raise ValueError(f"{name} hold NaN; every score must be a number")
        self.positives = np.sort(positives)
        self.negatives = np.sort(negatives)

    def false_positive_rates(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each score the fractions of the negatives that are `above` it and `reached` (above or equal)."""
        count = self.negatives.size
        if not count:
            return np.full(scores.shape, np.nan), np.full(scores.shape, np.nan)
        above = count - np.searchsorted(self.negatives, scores, side="right")
        reached = count - np.searchsorted(self.negatives, scores, side="left")
        return above / count, reached / count

    def auroc(self) -> float:
        """Area under the ROC curve."""
        return _mean(_ramp_areas(*self.false_positive_rates(self.positives), limit=1.0))

    def average_precision(self) -> float:
        """Mean over the positives of the precision at their score: step-wise area under precision-recall."""
        true, false = self._counts_at_positives()
        return _mean(true / (true + false))

    def f1_max(self) -> tuple[float, float]:
        """The highest F1 of all thresholds and a threshold that gives it, where positive means score >= threshold.

        The threshold is midway between the lowest score that it calls positive and the next lower one.
        """
        if not self.positives.size:
            return np.nan, np.nan
        true, false = self._counts_at_positives()
        f1 = 2 * true / (true + false + self.positives.size)
        best = f1.size - 1 - int(np.argmax(f1[::-1]))
        accepted = self.positives[best]
        rejected = [
            scores[place - 1]
            for scores in (self.positives, self.negatives)
            if (place := np.searchsorted(scores, accepted))
        ]
        return float(f1[best]), float((accepted + max(rejected, default=accepted)) / 2)

    def roc(self) -> np.ndarray:
        """True-positive rates at the false-positive rates `CURVE_FPR`, for drawing."""
        above, reached = self.false_positive_rates(self.positives)
        return _cumulate(above, reached, np.full(above.shape, 1 / max(above.size, 1)))

    def _counts_at_positives(self) -> tuple[np.ndarray, np.ndarray]:
        """With each positive's score as threshold: the numbers of true and of false positives."""
        true = self.positives.size - np.searchsorted(self.positives, self.positives, side="left")
        false = self.negatives.size - np.searchsorted(self.negatives, self.positives, side="left")
        return true, false


def rank_images(scores: Sequence[float] | np.ndarray, defective: Sequence[bool] | np.ndarray) -> Ranking:
    """Ranking of images by their scores [N]; `defective` [N] says which are positive."""
    scores, defective = np.asarray(scores), np.asarray(defective, dtype=bool)
    return Ranking(scores[defective], scores[~defective])


def rank_pixels(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Ranking:
    """Ranking of all pixels of the score `maps`, each [H, W]; positive are those in the bool `masks` of equal shape."""
    for score_map, mask in zip(maps, masks, strict=True):
        if score_map.shape != mask.shape:
            raise ValueError(f"a map of shape {score_map.shape} has a mask of shape {mask.shape}; they must be equal")
    positives = [score_map[mask] for score_map, mask in zip(maps, masks, strict=True)]
    negatives = [score_map[~mask] for score_map, mask in zip(maps, masks, strict=True)]
    return Ranking(np.concatenate(positives), np.concatenate(negatives))


@dataclass(frozen=True)
class RegionOverlap:
    """Area under the PRO curve up to a false-positive rate (1 is perfect), and the curve at `CURVE_FPR`."""

    area: float
    curve: np.ndarray


def region_overlap(
    ranking: Ranking, maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limit: float = PRO_LIMIT
) -> RegionOverlap:
    """Per-region overlap of the pixels ranked by `rank_pixels(maps, masks)`.

    The fraction of each defective region (8-connected) that a threshold finds, averaged over all regions,
    is plotted against the fraction of all defect-free pixels that it marks wrongly; the area from 0 to
    `limit`, divided by `limit`. NaN without a region or without a defect-free pixel.
    """
    areas: list[np.ndarray] = [np.empty(0)]
    curve = np.zeros(CURVE_FPR.shape)
    for score_map, mask in zip(maps, masks, strict=True):
        if not mask.any():
            continue
        scores = score_map[mask]
        order = np.argsort(scores)  # looking sorted scores up is several times faster
        regions = ndimage.label(mask, EIGHT_NEIGHBOURS)[0][mask][order] - 1
        share = (1 / np.bincount(regions))[regions]
        above, reached = ranking.false_positive_rates(scores[order])
        areas.append(np.bincount(regions, weights=share * _ramp_areas(above, reached, limit)))
        curve += _cumulate(above, reached, share)
    per_region = np.concatenate(areas)
    return RegionOverlap(_mean(per_region) / limit, curve / max(per_region.size, 1))


def _ramp_areas(above: np.ndarray, reached: np.ndarray, limit: float) -> np.ndarray:
    """Areas from 0 to `limit` under the functions that rise from 0 at `above` to 1 at `reached` and stay there."""
    risen = np.clip(limit, above, reached) - above
    width = reached - above
    slope = np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)
    return risen**2 * slope / 2 + np.maximum(limit - reached, 0)


def _cumulate(above: np.ndarray, reached: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of the weights of the ramps whose middle is passed at each of `CURVE_FPR`; zeros if there are none."""
    if np.isnan(above).any():
        return np.zeros(CURVE_FPR.shape)
    place = np.searchsorted(CURVE_FPR, (above + reached) / 2, side="left")
    return np.cumsum(np.bincount(place, weights=weights, minlength=CURVE_FPR.size))[: CURVE_FPR.size]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
