"""Whether one run is better than another, or was only lucky with the test images.

Paired bootstrap: the images that all runs were tested on are redrawn, the same ones for every run, and the difference
of a metric is measured in each redraw. It is significant if hardly any redraw turns its sign.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sw_anomaly.metrics.bootstrap import LEVEL, ImageStatistics, draw_weights, measure
from sw_models.errors import InputError

RESULTS, STATISTICS = "results.json", "images.npz"
RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """How far a metric lies above the first run's, the interval of that, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class ComparedRun:
    """A run's metrics on the common images, and their differences from the first run's, none for the first."""

    folder: Path
    metrics: dict[str, float]
    differences: dict[str, Difference]


@dataclass(frozen=True)
class Comparison:
    """Runs on the test images of one category that all of them were tested on."""

    category: str
    images: int
    runs: list[ComparedRun]


def compare(folders: Sequence[Path]) -> Comparison:
    """Compare runs, folders that ``sw-anomaly eval`` wrote, with the first; metrics that are not defined are NaN.

    Raises ``InputError`` if a folder holds no results or the runs have too little in common.
    """
    results = [_read_results(folder) for folder in folders]
    categories = {result["category"] for result in results}
    if len(categories) > 1:
        raise InputError(f"the runs are on different categories: {', '.join(sorted(categories))}; one is wanted")
    statistics = [ImageStatistics.load(folder / STATISTICS) for folder in folders]
    common = sorted(set.intersection(*(set(one.names.tolist()) for one in statistics)))
    if len(common) < 2:
        raise InputError(f"the runs have {len(common)} test images in common; at least 2 are needed")
    paired = [one.select([one.names.tolist().index(name) for name in common]) for one in statistics]
    weights = draw_weights(paired[0].defective, RESAMPLES)
    outcomes = [measure(one, weights) for one in paired]
    runs: list[ComparedRun] = []
    for folder, result, whole, outcome in zip(folders, results, statistics, outcomes, strict=True):
        metrics = _metrics(result, whole, common)
        differences = {
            name: _difference(metrics[name] - runs[0].metrics[name], values - outcomes[0][name])
            for name, values in outcome.items()
            if runs
        }
        runs.append(ComparedRun(folder, metrics, differences))
    return Comparison(categories.pop(), len(common), runs)


def _read_results(folder: Path) -> dict:
    if not all((folder / name).is_file() for name in (RESULTS, STATISTICS)):
        raise InputError(f"{folder} does not hold {RESULTS} and {STATISTICS}; a run of `sw-anomaly eval` is wanted")
    return json.loads((folder / RESULTS).read_text())


def _metrics(result: dict, whole: ImageStatistics, common: list[str]) -> dict[str, float]:
    """Return the metrics as they were measured, or, where other images were tested too, those of the common ones."""
    if len(common) == len(whole.names):
        return {name: np.nan if value is None else value for name, value in result["overall"].items()}
    rows = [whole.names.tolist().index(name) for name in common]
    measured = measure(whole.select(rows), np.ones((1, len(common))))
    return {name: float(values[0]) for name, values in measured.items()}


def _difference(value: float, redrawn: np.ndarray) -> Difference:
    defined = redrawn[~np.isnan(redrawn)]
    if not defined.size:
        return Difference(value, np.nan, np.nan, np.nan)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    turned = min((defined <= 0).sum(), (defined >= 0).sum())  # the observed one counts as a redraw, so p is never 0
    return Difference(value, float(low), float(high), min(2 * float(turned + 1) / (defined.size + 1), 1.0))
