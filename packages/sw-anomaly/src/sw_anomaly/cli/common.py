"""What the commands share: the program, its options, progress bars, the data that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from sw_models.console import program
from sw_models.errors import InputError

if TYPE_CHECKING:
    from sw_anomaly.progress import Progress

app = program("sw-anomaly", "Find defects in images of industrial parts after seeing good parts only.")
# What is going on; standard output is for results. Names of files are no markup.
screen = Console(stderr=True, highlight=False, markup=False, emoji=False)

CategoryOption = Annotated[str, typer.Option("--category", help="Name of the category's folder; eval takes all, too.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of images, or a CSV file. Default: an embedded SYNTHETIC sample.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Where the folder <category>/<number> of this run is made.")]
MaxPixelsOption = Annotated[
    int, typer.Option("--max-pixels", min=1, help="The largest image that is decoded: a small file can hold far more.")
]
FalseAlarmsOption = Annotated[
    float | None,
    typer.Option(
        "--false-alarms",
        help="Rate to keep, such as 0.02. Default: a balance with synthetic defects, or what training was asked for.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Return a ``Progress`` that draws a bar per piece of work; where nobody watches, a line per tenth of it."""
    text = TextColumn("{task.description}", markup=False)
    remark = TextColumn("{task.fields[note]}", "dim", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True), remark)
    with Bars(*columns, console=screen) as bars:
        tasks: dict[str, Any] = {}
        tenths: dict[str, int] = {}

        def progress(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, note=note)
            bars.update(tasks[what], completed=done, note=note)
            if not screen.is_terminal and 10 * done // total > tenths.get(what, 0):
                tenths[what] = 10 * done // total
                screen.print(f"{what}: {done} of {total}  {note}")

        yield progress


def find_data(category: str, data: Path | None, out: Path, progress: Progress) -> Path:
    """Find the data that is meant.

    Args:
        category: Of the data.
        data: A folder or a table; without one the embedded sample is meant, which is drawn on first use.
        out: Folder of runs, where the sample is drawn.
        progress: Told of each image that is drawn.

    Returns:
        The folder or the table.

    Raises:
        InputError: If the embedded sample has no such category.
    """
    from sw_anomaly.sample.drawings import CATEGORIES
    from sw_anomaly.sample.write import is_synthetic, write_sample

    if data is None:
        if category not in (*CATEGORIES, "all"):
            choice = ", ".join(CATEGORIES)
            raise InputError(f"--category: got {category!r}, want one of {choice}, or give your images with --data")
        data = out / "synthetic-sample"
        if not is_synthetic(data):
            write_sample(data, progress=progress)
    if is_synthetic(data):
        screen.print("SYNTHETIC images: drawn, not photographed.", style="bold")
    return data
