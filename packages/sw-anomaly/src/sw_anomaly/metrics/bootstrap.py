"""How sure the metrics are, given that other images of the same parts could have been tested.

Bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993): images are drawn with replacement, as many
good ones and as many defective ones as there were, and measured anew; the middle 95 % of the outcomes is the interval.

What an image adds to pixel metrics is kept as counts between a few hundred thresholds, so that a redraw is a weighted
sum of rows and no pixel is looked at again. The grid serves the intervals alone, the metrics themselves are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from sw_anomaly.metrics.ranking import PRO_LIMITS, Ranking, agreement, label_regions
from sw_models.files import write_atomically

RESAMPLES = 1000
LEVEL = 0.95
RECALL_STEPS, RATE_STEPS = 512, 192  # thresholds along recall; along the false-positive rate and its logarithm

Interval = tuple[float, float]


@dataclass(frozen=True)
class ImageStatistics:
    """What each of I tested images adds to every metric; bins lie between K ascending thresholds, lowest bin first."""

    names: np.ndarray  # [I], such as "scratch/007.png"
    defective: np.ndarray  # bool [I]
    scores: np.ndarray  # [I]
    negatives: np.ndarray  # [I, K + 1] numbers of defect-free pixels
    positives: np.ndarray  # [I, K + 1] numbers of defective pixels
    overlaps: np.ndarray  # [I, K + 1] the same, each pixel divided by the size of its region
    regions: np.ndarray  # [I] numbers of regions
    decisions: np.ndarray  # [I, 3] true, false and missed positive pixels at the detector's threshold

    def select(self, rows: np.ndarray | Sequence[int]) -> ImageStatistics:
        """Return the statistics of some images, by index or by a bool [I]."""
        return ImageStatistics(**{name: values[rows] for name, values in vars(self).items()})

    def save(self, path: Path) -> None:
        """Write everything to one .npz file."""

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez_compressed(file, **vars(self))

        write_atomically(path, write)

    @classmethod
    def load(cls, path: Path) -> ImageStatistics:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{field.name: file[field.name] for field in fields(cls)})


def collect(
    names: Sequence[str],
    defective: Sequence[bool],
    scores: Sequence[float],
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    pixels: Ranking,
    called: Sequence[np.ndarray],
) -> ImageStatistics:
    """Statistics of images.

    Args:
        names: Of the images.
        defective: Whether they are.
        scores: What they score.
        maps: Scores of their pixels, [H, W] each.
        masks: Their defective pixels, bool [H, W] each.
        pixels: ``rank_pixels(maps, masks)``.
        called: The pixels that were called defective, bool [H, W] each.
    """
    grid = _grid(pixels)
    shape = (len(names), grid.size + 1)
    negatives, positives, overlaps = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    regions, decisions = np.zeros(len(names)), np.zeros((len(names), 3))
    for row, (score_map, mask, found) in enumerate(zip(maps, masks, called, strict=True)):
        bins = np.searchsorted(grid, score_map, side="right")
        negatives[row] = np.bincount(bins[~mask], minlength=shape[1])
        decisions[row] = (found & mask).sum(), (found & ~mask).sum(), (mask & ~found).sum()
        if mask.any():
            region = label_regions(mask)
            sizes = np.bincount(region)
            regions[row] = sizes.size
            positives[row] = np.bincount(bins[mask], minlength=shape[1])
            overlaps[row] = np.bincount(bins[mask], 1 / sizes[region], minlength=shape[1])
    return ImageStatistics(
        np.array(names), np.array(defective), np.array(scores), negatives, positives, overlaps, regions, decisions
    )


def draw_weights(defective: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each image is in each resample, [resamples, I]: as many good and defective ones as there are."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, defective.size))
    for group in (np.flatnonzero(defective), np.flatnonzero(~defective)):
        if group.size:
            weights[:, group] = rng.multinomial(group.size, np.full(group.size, 1 / group.size), resamples)
    return weights


def measure(statistics: ImageStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric, [B], of each row of the image weights [B, I]; NaN where it is not defined."""
    order = np.argsort(-statistics.scores, kind="stable")
    ends = np.flatnonzero(np.diff(statistics.scores[order], append=np.nan))  # the last of each group of equal scores
    true, false = (
        np.cumsum((weights * chosen)[:, order], axis=1)[:, ends]
        for chosen in (statistics.defective, ~statistics.defective)
    )
    images = _rank_metrics(true, false)
    true, false, found = (
        np.cumsum((weights @ counts)[:, ::-1], axis=1)
        for counts in (statistics.positives, statistics.negatives, statistics.overlaps)
    )
    pixels = _rank_metrics(true, false)
    overlap = _divide(found, (weights @ statistics.regions)[:, None])
    rates = _divide(false, false[:, -1:])
    decisions = agreement(*(weights @ statistics.decisions).T)
    return {
        **{f"image_{name}": values for name, values in images.items()},
        **{f"pixel_{name}": values for name, values in pixels.items()},
        **{name: _area(rates, overlap, limit) for name, limit in zip(("aupro", "aupro_05"), PRO_LIMITS, strict=True)},
        **decisions,
    }


def bootstrap(statistics: ImageStatistics) -> dict[str, Interval]:
    """Return the interval of each metric; both ends are NaN where the metric is not defined."""
    outcomes = measure(statistics, draw_weights(statistics.defective))
    tail = (1 - LEVEL) / 2
    return {name: _interval(values, tail) for name, values in outcomes.items()}


def _interval(values: np.ndarray, tail: float) -> Interval:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return (float("nan"), float("nan"))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _grid(pixels: Ranking) -> np.ndarray:
    """Ascending thresholds: scores of defective pixels evenly along recall, of the others where curves need them."""
    recalls = np.linspace(0, 1, RECALL_STEPS)
    rates = np.concatenate([np.linspace(0, 1, RATE_STEPS), np.logspace(-7, 0, RATE_STEPS)])
    chosen = [
        scores[np.rint((scores.size - 1) * (1 - places)).astype(int)]
        for scores, places in ((pixels.positives, recalls), (pixels.negatives, rates))
        if scores.size
    ]
    return np.unique(np.concatenate(chosen))


def _rank_metrics(true: np.ndarray, false: np.ndarray) -> dict[str, np.ndarray]:
    """AUROC, AP and F1-max from true and false positives, [B, K], at falling thresholds, the last of which all pass."""
    positives, negatives = true[:, -1:], false[:, -1:]
    gained = np.diff(true, axis=1, prepend=0)
    summed_precision = np.nansum(gained * _divide(true, true + false), axis=1)
    f1 = _divide(2 * true, true + false + positives)
    return {
        "auroc": _area(_divide(false, negatives), _divide(true, positives), 1.0),
        "ap": _divide(summed_precision, positives[:, 0]),
        "f1_max": np.where(positives[:, 0] > 0, f1.max(axis=1), np.nan),
    }


def _area(rates: np.ndarray, heights: np.ndarray, limit: float) -> np.ndarray:
    """Areas [B] under piecewise linear curves [B, K] from (0, 0) up to rate ``limit``, divided by ``limit``."""
    rates = np.pad(rates, ((0, 0), (1, 0)))
    heights = np.pad(heights, ((0, 0), (1, 0)))
    width = np.diff(rates, axis=1)
    inside = np.minimum(rates[:, 1:], limit) - np.minimum(rates[:, :-1], limit)
    part = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    start = heights[:, :-1]
    return (inside * (start + 0.5 * part * np.diff(heights, axis=1))).sum(axis=1) / limit


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
