"""``sw-anomaly throughput``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sw_anomaly.cli.common import JsonOption, app, bad_input_in_one_line, progress_bars, show


@app.command()
@bad_input_in_one_line
def throughput(
    checkpoints: Annotated[list[Path], typer.Argument(help="From sw-anomaly train.")],
    images: Annotated[str, typer.Option(help="An image, a folder or a pattern such as 'parts/*.png'.")],
    count: Annotated[int, typer.Option(min=1, help="How many images are inspected with each checkpoint.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Measure how many images sw-anomaly predict inspects in a second, and what takes the time."""
    import torch

    from sw_anomaly.data.sources import find_sources
    from sw_anomaly.detector import load_detector
    from sw_anomaly.experiment.throughput import measure
    from sw_anomaly.methods.base import default_device

    sources = find_sources([images], leave_out=Path("predictions"))
    rows = []
    with progress_bars() as progress:
        for checkpoint in checkpoints:
            detector = load_detector(checkpoint)
            found = measure(detector, sources, count, progress)
            about = {"checkpoint": str(checkpoint), "method": detector.info.method, "model": detector.info.model}
            rows.append({**about, **asdict(found)})
    device = str(default_device())
    if as_json:
        print(
            json.dumps({"device": device, "threads": torch.get_num_threads(), "count": count, "rows": rows}, indent=2)
        )
        return
    table = Table(title=f"{count} images each, {device}, {torch.get_num_threads()} threads", box=SIMPLE_HEAD)
    for heading in ("method", "model", "images/s", "reading", "model", "writing"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in rows:
        shares = (f"{100 * share:.0f} %" for share in row["shares"].values())
        table.add_row(row["method"], row["model"], f"{row['images_per_second']:.1f}", *shares)
    show(table)
