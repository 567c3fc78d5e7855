"""``sw-anomaly compare``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sw_anomaly.cli.common import JsonOption, app, bad_input_in_one_line, show
from sw_models.errors import InputError

if TYPE_CHECKING:
    from sw_anomaly.evaluation.compare import ComparedRun, Comparison


@app.command()
@bad_input_in_one_line
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more folders that sw-anomaly eval wrote, such as runs/bottle/001.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Tell whether runs on one category differ by more than the luck of the test images; the first is the baseline."""
    from sw_anomaly.evaluation.compare import compare as run_comparison

    if len(runs) < 2:
        raise InputError("one run was given; two or more are wanted")
    comparison = run_comparison(runs)
    if as_json:
        print(json.dumps(_without_nan(asdict(comparison)), indent=2, default=str, allow_nan=False))
    else:
        _print_table(comparison)


def _print_table(comparison: Comparison) -> None:
    from sw_anomaly.evaluation.compare import RESAMPLES
    from sw_anomaly.report.html import METRICS

    table = Table(title=f"{comparison.category}, percent", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    for number in range(1, len(comparison.runs) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    for metric, label in METRICS.items():
        table.add_row(label, *(_cell(run, metric) for run in comparison.runs))
    show(table)
    for number, run in enumerate(comparison.runs, start=1):
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


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if value != value else value
