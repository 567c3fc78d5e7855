"""How well scores tell defective from good: ROC, precision-recall and per-region overlap, all exact.

Everything follows from where the positives stand among the negatives. Put the scores in descending order
and walk down: at a positive with score s the false-positive rate has risen to ``above``, the fraction of the
negatives that score more than s, and while s itself (and what ties with it) is passed it rises to ``reached``,
the fraction that scores at least s. So a positive contributes to the true-positive rate a ramp from ``above``
to ``reached``, and the area under ROC is the mean area under the ramps: two sorts and a look-up, no loop over
thresholds. Averaged within each defective region first, the same ramps give the per-region overlap (PRO) of
Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

PRO_LIMITS = (0.3, 0.05)  # false-positive rates up to which the MVTec AD papers, and stricter ones, integrate
CURVE_AXIS = np.linspace(0, 1, 501)  # where curves are sampled for drawing


class Ranking:
    """The standing of positive scores among negative ones; both are 1-D and free of NaN.

    Areas and rates are NaN where there is no positive or no negative.
    """

    def __init__(self, positives: np.ndarray, negatives: np.ndarray) -> None:
        self.positives = np.sort(positives)
        self.negatives = np.sort(negatives)
        for name, scores in (("positives", self.positives), ("negatives", self.negatives)):
            if scores.size and np.isnan(scores[-1]):  # NaN sorts last
                raise ValueError(f"{name} hold NaN; every score must be a number")

    def false_positive_rates(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each score the fractions of the negatives that are ``above`` it and ``reached`` (above or equal)."""
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
        """Return the highest F1 of all thresholds and one that gives it, where positive means score >= threshold.

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
        """True-positive rates at the false-positive rates ``CURVE_AXIS``, for drawing."""
        above, reached = self.false_positive_rates(self.positives)
        return _cumulate(above, reached, np.full(above.shape, 1 / max(above.size, 1)))

    def precision_recall(self) -> np.ndarray:
        """Precisions at the recalls ``CURVE_AXIS``, for drawing; zeros without a positive."""
        if not self.positives.size:
            return np.zeros(CURVE_AXIS.shape)
        true, false = self._counts_at_positives()
        enough = np.ceil(CURVE_AXIS * self.positives.size).clip(min=1).astype(int)  # positives that must be found
        return (true / (true + false))[self.positives.size - enough]

    def counts(self, threshold: float) -> tuple[int, int, int]:
        """Numbers of true positives, false positives and missed positives where positive means score >= threshold."""
        missed, rejected = (int(np.searchsorted(scores, threshold)) for scores in (self.positives, self.negatives))
        return self.positives.size - missed, self.negatives.size - rejected, missed

    def _counts_at_positives(self) -> tuple[np.ndarray, np.ndarray]:
        """With each positive's score as threshold: the numbers of true and of false positives."""
        true = self.positives.size - np.searchsorted(self.positives, self.positives, side="left")
        false = self.negatives.size - np.searchsorted(self.negatives, self.positives, side="left")
        return true, false


def rank_images(scores: Sequence[float] | np.ndarray, defective: Sequence[bool] | np.ndarray) -> Ranking:
    """Rank images.

    Args:
        scores: Of the images, [N].
        defective: Which of them are positive, [N].

    Returns:
        Their ranking.

    Example:
        >>> rank_images([0.1, 0.9], [False, True]).auroc()
        1.0
    """
    scores, defective = np.asarray(scores), np.asarray(defective, dtype=bool)
    return Ranking(scores[defective], scores[~defective])


def rank_pixels(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Ranking:
    """Rank all pixels of images.

    Args:
        maps: Scores of the pixels, [H, W] each.
        masks: Which of them are positive, bool [H, W] each.

    Returns:
        Their ranking.

    Raises:
        ValueError: If a map and its mask differ in shape.
    """
    for score_map, mask in zip(maps, masks, strict=True):
        if score_map.shape != mask.shape:
            raise ValueError(f"a map of shape {score_map.shape} has a mask of shape {mask.shape}; they must be equal")
    return Ranking(_gather(maps, masks, True), _gather(maps, masks, False))


@dataclass(frozen=True)
class RegionOverlap:
    """How much of each defective region is found.

    Attributes:
        areas: Under the curve up to each false-positive rate, divided by it: 1 is perfect.
        curve: At the false-positive rates ``CURVE_AXIS``, for drawing.
    """

    areas: dict[float, float]
    curve: np.ndarray


def region_overlap(
    ranking: Ranking,
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    limits: Sequence[float] = PRO_LIMITS,
) -> RegionOverlap:
    """Measure the per-region overlap (PRO).

    The fraction of each defective region (8-connected) that a threshold finds, averaged over all regions, is plotted
    against the fraction of all defect-free pixels that it marks wrongly; the area from 0 to a limit is divided by it.

    Args:
        ranking: ``rank_pixels(maps, masks)``.
        maps: Scores of the pixels, [H, W] each.
        masks: Which of them are defective, bool [H, W] each.
        limits: False-positive rates up to which areas are measured.

    Returns:
        Areas and curve, NaN without a region or without a defect-free pixel.
    """
    areas: list[np.ndarray] = [np.empty((len(limits), 0))]
    curve = np.zeros(CURVE_AXIS.shape)
    for score_map, mask in zip(maps, masks, strict=True):
        if not mask.any():
            continue
        scores, regions = score_map[mask], label_regions(mask)
        order = np.argsort(scores)  # looking sorted scores up is several times faster
        regions = regions[order]
        share = (1 / np.bincount(regions))[regions]
        above, reached = ranking.false_positive_rates(scores[order])
        areas.append(np.stack([np.bincount(regions, share * _ramp_areas(above, reached, limit)) for limit in limits]))
        curve += _cumulate(above, reached, share)
    per_region = np.concatenate(areas, axis=1)
    found = {limit: _mean(area) / limit for limit, area in zip(limits, per_region, strict=True)}
    return RegionOverlap(found, curve / max(per_region.shape[1], 1))


def label_regions(mask: np.ndarray) -> np.ndarray:
    """Return the region, numbered from 0, of each pixel in the bool ``mask`` [H, W], in the order of ``nonzero()``."""
    return cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[1][mask] - 1


def agreement(true: Any, false: Any, missed: Any) -> dict[str, Any]:
    """Dice, IoU, precision and recall at a threshold.

    Args:
        true: Number, or numbers, of true positives.
        false: Of false positives.
        missed: Of missed positives.

    Returns:
        Each of the shape of the arguments, NaN for 0 / 0 and where there is nothing to find.
    """
    positives = true + missed
    ratios = {
        "dice": (2 * true, 2 * true + false + missed),
        "iou": (true, true + false + missed),
        "precision": (true, true + false),
        "recall": (true, true + missed),
    }
    return {
        name: np.where((positives > 0) & (whole > 0), part / np.maximum(whole, 1), np.nan)[()]
        for name, (part, whole) in ratios.items()
    }


def _gather(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], defective: bool) -> np.ndarray:
    """Return the pixels of the maps where the masks say ``defective``, without a second copy of them on the way."""
    gathered = np.empty(sum(int((mask == defective).sum()) for mask in masks), dtype=np.result_type(*maps))
    start = 0
    for score_map, mask in zip(maps, masks, strict=True):
        chosen = score_map[mask == defective]
        gathered[start : start + chosen.size] = chosen
        start += chosen.size
    return gathered


def _ramp_areas(above: np.ndarray, reached: np.ndarray, limit: float) -> np.ndarray:
    """Areas from 0 to ``limit`` under functions that rise from 0 at ``above`` to 1 at ``reached`` and stay."""
    risen = np.clip(limit, above, reached) - above
    width = reached - above
    slope = np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)
    return risen**2 * slope / 2 + np.maximum(limit - reached, 0)


def _cumulate(above: np.ndarray, reached: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of the weights of the ramps whose middle is passed at each of ``CURVE_AXIS``; zeros if there are none."""
    if np.isnan(above).any():
        return np.zeros(CURVE_AXIS.shape)
    place = np.searchsorted(CURVE_AXIS, (above + reached) / 2, side="left")
    return np.cumsum(np.bincount(place, weights=weights, minlength=CURVE_AXIS.size))[: CURVE_AXIS.size]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
