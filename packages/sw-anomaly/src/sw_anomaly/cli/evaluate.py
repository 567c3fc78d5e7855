"""``sw-anomaly eval``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sw_anomaly.cli.common import (
    CategoryOption,
    DataOption,
    FalseAlarmsOption,
    JsonOption,
    MaxPixelsOption,
    OutOption,
    app,
    find_data,
    progress_bars,
    screen,
)
from sw_anomaly.cli.options import with_fit_options
from sw_models.console import print_json, print_rows
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS

if TYPE_CHECKING:
    from sw_anomaly.evaluation.evaluate import Evaluation, Scores
    from sw_anomaly.experiment.run import Outcome, Request


@app.command(name="eval")
@with_fit_options
def evaluate(
    options: dict[str, Any],
    category: CategoryOption,
    data: DataOption = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="From sw-anomaly train. Default: the newest one in --out that is as asked.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs, of --seed and the seeds after it.")] = 1,
    memory: Annotated[
        float | None,
        typer.Option(help="GB for all processes together, 3 for each. Default: three quarters of the machine's."),
    ] = None,
    false_alarms: FalseAlarmsOption = None,
    out: OutOption = Path("runs"),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Measure how well defects are found in the test images; fits a detector first if there is none.

    Several categories (--category all) or seeds are evaluated in parallel processes.
    """
    from sw_anomaly.data.layouts import list_categories
    from sw_anomaly.experiment.run import Request, run_one
    from sw_models.allocator import keep_freed_memory

    keep_freed_memory()
    with progress_bars() as progress:
        data = find_data(category, data, out, progress)
    categories = list_categories(data) if category == "all" else [category]
    if checkpoint is not None and (seeds > 1 or len(categories) > 1):
        raise InputError("--checkpoint: got one detector, want one per category and seed; leave it out")
    if len(categories) == 1 and seeds == 1:
        with progress_bars() as progress:
            request = Request(data, categories[0], out, options, checkpoint, max_pixels, false_alarms)
            outcome = run_one(request, progress, screen.print)
        _print_one(outcome, as_json)
        return
    first = options.pop("seed", 0)
    requests = [
        Request(data, name, out, {**options, "seed": number}, None, max_pixels, false_alarms)
        for name in categories
        for number in range(first, first + seeds)
    ]
    _run_many(requests, out, memory, as_json)


def _print_one(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print_json(outcome.result)
        return
    from sw_anomaly.report.html import HEADLINES, METRICS, percentages

    evaluation, result = outcome.evaluation, outcome.result
    assert evaluation is not None
    measured: dict[str, Scores] = {"all": evaluation.overall, **evaluation.per_defect}
    texts = {kind: percentages(scores) for kind, scores in measured.items()}
    rows = [{"defect": kind, **{METRICS[name]: text[name] for name in HEADLINES}} for kind, text in texts.items()]
    print_rows(rows, as_json=False, title=f"Defects in {result['category']}{_stamps(result)}, percent")
    points = [
        {
            "threshold": point.at,
            "false alarms": _with_interval(point.false_alarms, point.false_alarms_interval),
            "escapes": _with_interval(point.escapes, point.escapes_interval),
        }
        for point in evaluation.operating_points
    ]
    print_rows(points, as_json=False, title="Good ones called defective, defective ones called good, percent")
    print(f"at the threshold: {_decisions(evaluation)}")
    print(f"results: {outcome.run / 'results.json'}\nreport:  {outcome.run / 'report.html'}  (open it in a browser)")


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    low, high = (_percent(None if math.isnan(end) else end) for end in interval)
    return "–" if math.isnan(value) else f"{_percent(value)} ({low} to {high})"


def _decisions(evaluation: Evaluation) -> str:
    good = sum(one.image.is_good for one in evaluation.tested)
    defective = len(evaluation.tested) - good
    found = f"{evaluation.missed} of {defective} defective images missed" if defective else "no defective images tested"
    alarms = f"{evaluation.false_alarms} of {good} good ones called defective" if good else "no good ones tested"
    return f"{found}, {alarms}"


def _run_many(requests: list[Request], out: Path, memory: float | None, as_json: bool) -> None:
    from sw_anomaly.experiment import parallel
    from sw_anomaly.experiment.folders import new_run
    from sw_anomaly.experiment.summary import summarize
    from sw_anomaly.report.html import write_sections
    from sw_models.files import write_atomically

    workers = parallel.count_workers(requests, memory or parallel.available_memory())
    screen.print(f"{len(requests)} runs, {workers} at a time")
    outcomes: list[Outcome] = []
    refused: list[str] = []
    with progress_bars() as progress:
        for number, (request, outcome) in enumerate(parallel.run_many(requests, workers), start=1):
            what = f"{request.category}, seed {request.options['seed']}"
            if isinstance(outcome, InputError):
                refused.append(f"{what}: {outcome}")
            else:
                outcomes.append(outcome)
            progress("evaluating", number, len(requests), what)
    if outcomes:
        outcomes.sort(key=lambda outcome: (outcome.result["category"], outcome.result["seed"]))
        folder, table = new_run(out / "all"), summarize(outcomes)
        summary = {"table": table, "runs": [str(outcome.run) for outcome in outcomes], "refused": refused}
        write_atomically(
            folder / "summary.json", lambda path: path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
        )
        write_sections(folder / "report.html", [outcome.section for outcome in outcomes])
        if as_json:
            print_json(summary)
        else:
            _print_summary(table, outcomes[0].result)
            print(f"summary: {folder / 'summary.json'}\nreport:  {folder / 'report.html'}  (open it in a browser)")
    if refused:
        raise InputError("; ".join(refused))


def _print_summary(summary: Mapping[str, Mapping[str, Mapping[str, float | None]]], result: Mapping[str, Any]) -> None:
    from sw_anomaly.report.html import HEADLINES, METRICS

    rows = [
        {"category": category, **{METRICS[name]: _percent(**row[name]) for name in HEADLINES}}
        for category, row in summary.items()
    ]
    print_rows(rows, as_json=False, title=f"{result['method']}, {result['protocol']}{_stamps(result)}, percent")


def _percent(mean: float | None, deviation: float | None = None) -> str:
    if mean is None:
        return "–"
    return f"{100 * mean:.1f}" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def _stamps(result: Mapping[str, Any]) -> str:
    synthetic = " (SYNTHETIC images)" if result["synthetic"] else ""
    return synthetic + (" (LEAKY: test images were trained on)" if result["leaky"] else "")
