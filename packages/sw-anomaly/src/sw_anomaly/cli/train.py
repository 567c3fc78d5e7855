"""``sw-anomaly train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

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
from sw_models.console import print_json
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS


@app.command()
@with_fit_options
def train(
    options: dict[str, Any],
    category: CategoryOption,
    data: DataOption = None,
    false_alarms: FalseAlarmsOption = None,
    continue_from: Annotated[
        Path | None,
        typer.Option(help="Folder of a run: the good images that it has not seen are added to what it knows."),
    ] = None,
    out: OutOption = Path("runs"),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Fit a detector to the good training images of a category.

    An interrupted training continues when the same command is given again.
    """
    from sw_anomaly.config import CHECKPOINT
    from sw_anomaly.detector import check_rate, load_detector
    from sw_anomaly.experiment.extend import extend
    from sw_anomaly.experiment.run import fit_run, read_checked
    from sw_models.allocator import keep_freed_memory

    if continue_from is not None and options:
        raise InputError(f"--continue-from: got --{next(iter(options)).replace('_', '-')}, too, want what that run had")
    if false_alarms is not None:
        check_rate(false_alarms)
    keep_freed_memory()
    with progress_bars() as progress:
        data = find_data(category, data, out, progress)
        leaky = options.get("protocol") == "published"
        images = read_checked(data, category, max_pixels, leaky, progress, screen.print)
        start = time.perf_counter()
        if continue_from is None:
            if false_alarms is not None:
                options["false_alarms"] = false_alarms
            run, _ = fit_run(images, options, out, progress, screen.print)
        else:
            run = extend(images, continue_from, out, false_alarms, progress, screen.print)
        seconds = time.perf_counter() - start
    checkpoint = run / CHECKPOINT
    screen.print(load_detector(checkpoint).promise(false_alarms), soft_wrap=True)
    if as_json:
        print_json({"checkpoint": str(checkpoint), "seconds": round(seconds, 1)})
    else:
        print(f"checkpoint: {checkpoint}")
