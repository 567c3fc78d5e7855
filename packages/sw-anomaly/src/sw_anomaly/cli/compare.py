"""``sw-anomaly compare``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sw_anomaly.cli.common import JsonOption, app
from sw_models.console import print_json, print_rows
from sw_models.errors import InputError

if TYPE_CHECKING:
    from sw_anomaly.evaluation.compare import ComparedRun, Comparison


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more folders that sw-anomaly eval wrote, such as runs/bottle/001.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Tell whether runs on one category differ by more than the luck of the test images; the first is the baseline."""
    from sw_anomaly.evaluation.compare import compare as run_comparison

    if len(runs) < 2:
        raise InputError("RUNS: got one run, want two or more")
    comparison = run_comparison(runs)
    if as_json:
        compared = [{**asdict(run), "folder": str(run.folder)} for run in comparison.runs]
        print_json({**asdict(comparison), "runs": compared})
    else:
        _print_table(comparison)


def _print_table(comparison: Comparison) -> None:
    from sw_anomaly.evaluation.compare import RESAMPLES
    from sw_anomaly.report.html import METRICS

    runs = list(enumerate(comparison.runs, start=1))
    rows = [
        {"metric": label, **{str(number): _cell(run, metric) for number, run in runs}}
        for metric, label in METRICS.items()
    ]
    print_rows(rows, as_json=False, title=f"{comparison.category}, percent")
    for number, run in runs:
        print(f"{number}: {run.folder}")
    print(
        f"differences from 1: * p < 0.05, ** p < 0.01, by {RESAMPLES} paired redraws of {comparison.images} test images"
    )


def _cell(run: ComparedRun, metric: str) -> str:
    value, difference = f"{100 * run.metrics[metric]:.1f}", run.differences.get(metric)
    if difference is None:
        return value
    stars = "**" if difference.p < 0.01 else "*" if difference.p < 0.05 else ""
    return f"{value} ({100 * difference.value:+.1f}){stars:2}"
