"""``sw-anomaly predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_anomaly.cli.common import FalseAlarmsOption, JsonOption, MaxPixelsOption, app, progress_bars, screen
from sw_models.console import print_json
from sw_models.images import MAX_PIXELS

SOME_UNREADABLE = 3


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(help="Images, folders, patterns such as 'parts/*.png', videos.")],
    checkpoint: Annotated[Path, typer.Option(help="From sw-anomaly train.")],
    out: Annotated[Path, typer.Option(help="Where the folder <number> of this run is made.")] = Path("predictions"),
    false_alarms: FalseAlarmsOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Find the defects in images: heat maps, masks, and a table of scores.

    Goes on past files that cannot be read, lists them at the end and exits with 3.
    """
    from sw_anomaly.detector import load_detector
    from sw_anomaly.experiment.folders import new_run
    from sw_anomaly.experiment.predict import predict as run_predict
    from sw_models.allocator import keep_freed_memory
    from sw_models.sources import find_sources

    keep_freed_memory()
    sources = find_sources(images, leave_out=out)
    detector = load_detector(checkpoint)
    if false_alarms is not None:
        detector = detector.keeping(false_alarms)
    screen.print(detector.promise(false_alarms), soft_wrap=True)
    run = new_run(out)
    with progress_bars() as progress:
        found = run_predict(detector, sources, run, len(sources), progress, max_pixels)
    if as_json:
        counts = {"images": found.images, "defective": found.defective}
        print_json({"folder": str(run), **counts, "unreadable": found.unreadable, "seconds": found.seconds})
    else:
        print(f"{found.defective} of {found.images} images are called defective\nscores: {run / 'scores.csv'}")
        print(f"images: {run / 'heat_maps'}, {run / 'masks'}")
    for problem in found.unreadable:
        screen.print(f"not read: {problem}", style="red", soft_wrap=True)
    if found.unreadable:
        raise typer.Exit(SOME_UNREADABLE)
