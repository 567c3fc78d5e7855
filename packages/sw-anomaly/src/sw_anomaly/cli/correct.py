"""``sw-anomaly correct``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sw_anomaly.cli.common import JsonOption, MaxPixelsOption, OutOption, app, progress_bars, screen
from sw_models.console import print_json
from sw_models.images import MAX_PIXELS


@app.command()
def correct(
    run: Annotated[Path, typer.Argument(help="Folder of the run that gave wrong verdicts; it is left as it is.")],
    decisions: Annotated[
        Path, typer.Argument(help="CSV file with the columns path and verdict (good, defective), as predict writes it.")
    ],
    out: OutOption = Path("runs"),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Learn from wrong verdicts, in a run of its own.

    Rows whose verdict is the run's own are no corrections; they may stay in the table.
    """
    from sw_anomaly.config import CHECKPOINT
    from sw_anomaly.data.decisions import read_decisions
    from sw_anomaly.experiment.correct import correct as learn
    from sw_models.allocator import keep_freed_memory

    keep_freed_memory()
    decided = read_decisions(decisions, max_pixels)
    start = time.perf_counter()
    with progress_bars() as progress:
        outcome = learn(run, decided, out, decisions, progress, screen.print)
    before, after = outcome.image_threshold
    wrong = outcome.false_alarms + outcome.missed
    if as_json:
        print_json(
            {
                "checkpoint": str(outcome.run / CHECKPOINT),
                "decisions": outcome.decisions,
                "false_alarms": outcome.false_alarms,
                "missed": outcome.missed,
                "still_wrong": outcome.still_wrong,
                "image_threshold": {"before": before, "after": after},
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    else:
        print(f"wrong verdicts: {wrong} before, {outcome.still_wrong} after, each judged without what it taught")
        print(f"threshold of images: {before:.4g} before, {after:.4g} after")
        print(f"checkpoint: {outcome.run / CHECKPOINT}")
