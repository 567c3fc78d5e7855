"""``sw-models flops``."""

from __future__ import annotations

from rich.progress import Progress

from sw_models.analysis.flops import count_macs
from sw_models.cli.common import AsJson, Models, Picture, Size, create
from sw_models.console import print_rows
from sw_models.files import want_new_file


def flops(models: Models, size: Size = 224, picture: Picture = None, as_json: AsJson = False) -> None:
    """Count the multiply-accumulates of one image, by kind of layer."""
    with Progress(transient=True) as progress:
        if picture:
            want_new_file("--picture", picture)
        counts = {
            name: count_macs(create(name, "meta"), size) for name in progress.track(models, description="counting")
        }
    if picture:
        from sw_models.analysis.plots import draw_macs

        draw_macs(counts, picture)
    scale = 1 if as_json else 1e9
    rows = [{"model": name, **{k: n / scale for k, n in count.items()}} for name, count in counts.items()]
    print_rows(rows, as_json, f"GMACs of an image of {size}x{size}")
