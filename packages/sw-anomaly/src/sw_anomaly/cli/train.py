"""``sw-anomaly train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from sw_models.images import MAX_PIXELS


@app.command()
@with_fit_options
def train(
    options: dict[str, Any],
    category: CategoryOption,
    data: DataOption = None,
    false_alarms: FalseAlarmsOption = None,
    out: OutOption = Path("runs"),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Fit a detector to the good training images of a category.

    An interrupted training continues when the same command is given again.
    """
    from sw_anomaly.config import CHECKPOINT
    from sw_anomaly.detector import check_rate, load_detector
    from sw_anomaly.experiment.run import fit_run, read_checked

    if false_alarms is not None:
        check_rate(false_alarms)
        options["false_alarms"] = false_alarms
    with progress_bars() as progress:
        data = find_data(category, data, out, progress)
        leaky = options.get("protocol") == "published"
        images = read_checked(data, category, max_pixels, leaky, progress, screen.print)
        run, seconds = fit_run(images, options, out, progress, screen.print)
    checkpoint = run / CHECKPOINT
    screen.print(load_detector(checkpoint).promise(false_alarms), soft_wrap=True)
    if as_json:
        print_json({"checkpoint": str(checkpoint), "seconds": round(seconds, 1)})
    else:
        print(f"checkpoint: {checkpoint}")
