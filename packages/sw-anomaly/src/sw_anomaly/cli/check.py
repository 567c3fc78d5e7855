"""``sw-anomaly check``."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sw_anomaly.cli.common import JsonOption, MaxPixelsOption, app, progress_bars
from sw_models.console import print_json, print_rows
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS

if TYPE_CHECKING:
    from sw_anomaly.data.check import Check


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Folder of images of parts, or a CSV file of paths and labels.")],
    category: Annotated[str, typer.Option(help="One of its folders. Default: all of them.")] = "all",
    out: Annotated[Path, typer.Option(help="Where <category>/check.png is drawn.")] = Path("runs"),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Look at every image and mask: what is found, what is left out and why, what training would refuse.

    Draws images of every kind with their masks, to be looked at. Exits with 2 if something has to be mended.
    """
    from sw_anomaly.data.check import check_category
    from sw_anomaly.data.layouts import WANTED, list_categories, read_category
    from sw_anomaly.report.contact_sheet import draw_contact_sheet
    from sw_models.files import make_folder, write_atomically

    names = list_categories(data) if category == "all" else [category]
    if not names:
        raise InputError(f"{data}: got no category, want {WANTED}")
    results, refused = [], []
    for name in names:
        try:
            read = read_category(data, name, max_pixels)
        except InputError as error:
            refused.append(f"{name}: {error}")
            continue
        with progress_bars() as progress:
            found = check_category(read, progress=progress)
        refused += [f"{name}: {problem}" for problem in found.refused]
        sheet = None
        if not found.refused:
            sheet = out / name / "check.png"
            make_folder("--out", sheet.parent)
            write_atomically(sheet, partial(draw_contact_sheet(read).save, format="PNG"))
        results.append({**found.as_dict(), "contact_sheet": None if sheet is None else str(sheet)})
        if not as_json:
            _print(found, sheet)
    if as_json:
        print_json({"categories": results, "refused": refused})
    if refused:
        raise InputError("; ".join(refused))


def _print(found: Check, sheet: Path | None) -> None:
    rows = [
        {
            "part": group.part,
            "kind": group.kind,
            "images": group.images,
            "masks": group.masks,
            "marked": f"{100 * group.marked:.2f} %",
            "size": next(iter(group.sizes), "") if len(group.sizes) < 2 else f"{len(group.sizes)} sizes",
        }
        for group in found.groups
    ]
    print_rows(rows, as_json=False, title=f"{found.category.name} ({found.category.layout})")
    for note in found.noted:
        print(f"note: {note}")
    reasons = defaultdict(list)
    for one in found.category.left_out:
        reasons[one.reason].append(one.path)
    for reason, paths in reasons.items():
        print(f"left out, {reason}: {', '.join(map(str, paths))}")
    if sheet is not None:
        print(f"look at: {sheet}")
