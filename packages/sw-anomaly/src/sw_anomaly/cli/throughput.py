"""``sw-anomaly throughput``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sw_anomaly.cli.common import JsonOption, MaxPixelsOption, app, progress_bars
from sw_models.console import print_json, print_rows
from sw_models.images import MAX_PIXELS


@app.command()
def throughput(
    checkpoints: Annotated[list[Path], typer.Argument(help="From sw-anomaly train.")],
    images: Annotated[str, typer.Option(help="An image, a folder or a pattern such as 'parts/*.png'.")],
    count: Annotated[int, typer.Option(min=1, help="How many images are inspected with each checkpoint.")] = 50,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Measure how many images sw-anomaly predict inspects in a second, and what takes the time."""
    import torch

    from sw_anomaly.detector import load_detector
    from sw_anomaly.experiment.throughput import measure
    from sw_anomaly.methods.base import default_device
    from sw_models.allocator import keep_freed_memory
    from sw_models.sources import find_sources

    keep_freed_memory()
    sources = find_sources([images], leave_out=Path("predictions"))
    rows = []
    with progress_bars() as progress:
        for checkpoint in checkpoints:
            detector = load_detector(checkpoint)
            found = measure(detector, sources, count, progress, max_pixels)
            about = {"checkpoint": str(checkpoint), "method": detector.info.method, "model": detector.info.model}
            rows.append({**about, **asdict(found)})
    device = str(default_device())
    if as_json:
        print_json({"device": device, "threads": torch.get_num_threads(), "count": count, "rows": rows})
        return
    shown = [
        {
            "method": row["method"],
            "network": row["model"],
            "images/s": f"{row['images_per_second']:.1f}",
            **{work: f"{100 * share:.0f} %" for work, share in row["shares"].items()},
        }
        for row in rows
    ]
    print_rows(shown, as_json=False, title=f"{count} images each, {device}, {torch.get_num_threads()} threads")
