"""``sw-models coverage``."""

from __future__ import annotations

from rich.progress import Progress

from sw_models.cli.common import AsJson, Picture
from sw_models.console import print_rows
from sw_models.files import want_new_file


def coverage(picture: Picture = None, as_json: AsJson = False, shuffles: int = 8) -> None:
    """Show which share of the convolved values reaches the output, by stage and number of shuffles."""
    from sw_models.analysis.coverage import used_share

    stages = {"56x56, kernel 51": (51, 56), "28x28, kernel 49": (49, 28), "14x14, kernel 47": (47, 14)}
    stages |= {"7x7, kernel 13": (13, 7)}
    with Progress(transient=True) as progress:
        if picture:
            want_new_file("--picture", picture)
        curves = {
            name: {
                label: [used_share(kernel, 3, size, n, label == "shuffled") for n in range(1, shuffles + 1)]
                for label in ("shuffled", "ordered")
            }
            for name, (kernel, size) in progress.track(stages.items(), description="counting")
        }
    if picture:
        from sw_models.analysis.plots import draw_coverage

        draw_coverage(curves, picture)
    rows = [
        {"stage": stage, "slots": label, **{str(i + 1): round(share, 4) for i, share in enumerate(line)}}
        for stage, lines in curves.items()
        for label, line in lines.items()
    ]
    print_rows(rows, as_json, "share of the values used at least once, by number of shuffles")
