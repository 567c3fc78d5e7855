"""``sw-anomaly check``."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sw_anomaly.cli.common import JsonOption, app, bad_input_in_one_line, progress_bars, show
from sw_models.errors import InputError

if TYPE_CHECKING:
    from sw_anomaly.data.check import Check


@app.command()
@bad_input_in_one_line
def check(
    data: Annotated[Path, typer.Argument(help="Folder in MVTec AD layout.")],
    category: Annotated[str, typer.Option(help="One of its folders. Default: all of them.")] = "all",
    out: Annotated[Path, typer.Option(help="Where <category>/check.png is drawn and files are remembered.")] = Path(
        "runs"
    ),
    as_json: JsonOption = False,
) -> None:
    """Look at every image and mask: what is found, what is left out and why, what training would refuse.

    Draws images of every kind with their masks, to be looked at. Exits with 2 if something has to be mended.
    """
    from sw_anomaly.data.check import MEMORY, check_category
    from sw_anomaly.data.mvtec import list_categories, read_category
    from sw_anomaly.report.contact_sheet import draw_contact_sheet
    from sw_models.files import write_atomically

    names = list_categories(data) if category == "all" else [category]
    if not names:
        raise InputError(f"{data}: got no folder with train/good in it, want one per category")
    results, refused = [], []
    for name in names:
        try:
            read = read_category(data, name)
        except InputError as error:
            refused.append(f"{name}: {error}")
            continue
        with progress_bars() as progress:
            found = check_category(read, out / name / MEMORY, progress=progress)
        refused += [f"{name}: {problem}" for problem in found.refused]
        sheet = None
        if not found.refused:
            sheet = out / name / "check.png"
            write_atomically(sheet, partial(draw_contact_sheet(read).save, format="PNG"))
        results.append({**found.as_dict(), "contact_sheet": None if sheet is None else str(sheet)})
        if not as_json:
            _print(found, sheet)
    if as_json:
        print(json.dumps({"categories": results, "refused": refused}, indent=2, allow_nan=False))
    if refused:
        raise InputError("; ".join(refused))


def _print(found: Check, sheet: Path | None) -> None:
    table = Table(title=found.category.name, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("part", "kind", "images", "masks", "marked", "size"):
        table.add_column(heading, justify="left" if heading in ("part", "kind") else "right")
    for group in found.groups:
        sizes = next(iter(group.sizes), "") if len(group.sizes) < 2 else f"{len(group.sizes)} sizes"
        marked = f"{100 * group.marked:.2f} %" if group.masks else ""
        table.add_row(group.part, group.kind, str(group.images), str(group.masks or ""), marked, sizes)
    show(table)
    for note in found.noted:
        print(f"note: {note}")
    reasons = defaultdict(list)
    for one in found.category.left_out:
        reasons[one.reason].append(one.path)
    for reason, paths in reasons.items():
        print(f"left out, {reason}: {', '.join(map(str, paths))}")
    if sheet is not None:
        print(f"look at: {sheet}")
