"""What the commands share: the application, its options, the screen, progress bars, refusals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from sw_models.errors import InputError

if TYPE_CHECKING:
    from sw_anomaly.progress import Progress

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find defects in images of industrial parts after seeing good parts only.",
)
WIDTH = 120  # of tables that go to a file
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}  # names of files are no markup
screen = Console(stderr=True, **PLAIN)  # what is going on; standard output is for results

CategoryOption = Annotated[str, typer.Option("--category", help="Name of the category's folder; eval takes all, too.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder in MVTec AD layout. Default: an embedded SYNTHETIC sample.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Where the folder <category>/<number> of this run is made.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def bad_input_in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command print what a user can mend as one line, and exit with 2.

    That is an ``InputError``, or what the operating system refuses, such as writing to a disk that is full.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (InputError, OSError) as error:
            text = str(error)
            if isinstance(error, OSError):
                text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or text
            screen.print(f"sw-anomaly: {' '.join(text.splitlines())}", style="red", soft_wrap=True)
            raise typer.Exit(2) from None

    return wrapped


def show(table: Table) -> None:
    """Print a table of results, in a file as wide as on a wide screen."""
    console = Console(**PLAIN)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A ``Progress`` that draws a bar per piece of work; where nobody watches, a line per tenth of it."""
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
    """The folder of data; without one that of the embedded sample, which is drawn on first use."""
    from sw_anomaly.sample.drawings import CATEGORIES
    from sw_anomaly.sample.write import is_synthetic, write_sample

    if data is None:
        if category not in (*CATEGORIES, "all"):
            choice = ", ".join(CATEGORIES)
            raise InputError(
                f"the embedded sample has no category {category!r}, only {choice}; give your images with --data"
            )
        data = out / "synthetic-sample"
        if not is_synthetic(data):
            write_sample(data, progress=progress)
    if is_synthetic(data):
        screen.print("SYNTHETIC images: drawn, not photographed.", style="bold")
    return data
