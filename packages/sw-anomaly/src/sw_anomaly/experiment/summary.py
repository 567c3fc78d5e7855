"""The table over several categories and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sw_anomaly.experiment.run import Outcome
from sw_anomaly.report.html import HEADLINES

Row = dict[str, dict[str, float | None]]  # of a metric: its mean, and with several seeds its standard deviation


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Row]:
    """Mean and standard deviation of the headline metrics over the seeds of each category, and means over categories.

    Args:
        outcomes: Finished runs.

    Returns:
        A row per category, and ``mean`` if there are several. A category in which a metric is not defined, such as
        one without defects, has None there and does not count in the mean; so does a seed.
    """
    values: dict[str, list[list[float]]] = {}
    for outcome in outcomes:
        overall = outcome.result["overall"]
        row = [np.nan if overall[name] is None else overall[name] for name in HEADLINES]
        values.setdefault(outcome.result["category"], []).append(row)
    table = {category: _spread(np.array(rows)) for category, rows in sorted(values.items())}
    if len(table) > 1:
        means = np.array([[row[name]["mean"] for name in HEADLINES] for row in table.values()], dtype=float)
        table["mean"] = _spread(means, with_deviation=False)
    return table


def _spread(rows: np.ndarray, with_deviation: bool = True) -> Row:
    """Of rows [N, metrics], NaN where not defined."""
    table: Row = {}
    for name, column in zip(HEADLINES, rows.T, strict=True):
        defined = column[~np.isnan(column)]
        table[name] = {"mean": float(defined.mean()) if defined.size else None}
        if with_deviation and len(rows) > 1:
            table[name]["deviation"] = float(defined.std(ddof=1)) if defined.size > 1 else None
    return table
