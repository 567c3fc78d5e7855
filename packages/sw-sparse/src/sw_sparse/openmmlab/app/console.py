"""What several commands do at the terminal: stop when asked to, print figures, make folders for results."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sw_models.console import print_json
from sw_models.errors import InputError
from sw_models.files import make_folder
from sw_sparse.openmmlab.interrupt import Interrupted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def one_of_many(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end with status 143 where SIGTERM stopped it; the first of torchrun's processes speaks for all."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError:
            if is_first_process():
                raise
            raise typer.Exit(2) from None
        except Interrupted as stopped:
            if is_first_process():
                typer.echo(str(stopped), err=True)
            raise typer.Exit(143) from None

    return wrapper


def is_first_process() -> bool:
    """Whether this process speaks for all; torchrun numbers its processes in ``RANK``."""
    return int(os.environ.get("RANK", "0")) == 0


def new_folder(wanted: Path | None, numbered: Path) -> Path:
    """Make and return the wanted folder, or the next of ``numbered/001``, ``002``, ...

    Raises:
        InputError: the wanted folder exists and is not empty, or cannot be made.
    """
    if wanted is None:
        taken = [int(path.name) for path in numbered.glob("[0-9]*") if path.name.isdigit()]
        wanted = numbered / f"{max(taken, default=0) + 1:03}"
    elif wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(f"--out: {wanted} exists, want a new folder")
    make_folder("--out", wanted)
    return wanted


def print_figures(figures: Mapping[str, Any], as_json: bool, title: str) -> None:
    """Print figures; those named "column/row" share a table of rows and columns."""
    if as_json:
        print_json(figures)
        return
    from rich.text import Text

    rows = table(title, "", "")
    rows.show_header = False
    cells: dict[str, dict[str, Any]] = {}
    for name, value in figures.items():
        column, slash, row = name.partition("/")
        if slash:
            cells.setdefault(row, {})[column] = value
        else:
            rows.add_row(Text(name), Text(_written(value)))
    output = screen(stderr=False)
    if rows.rows:
        output.print(rows)
    if cells:
        columns = list(dict.fromkeys(column for row in cells.values() for column in row))
        grid = table(title, "", *columns)
        for row, values in cells.items():
            grid.add_row(Text(row), *(Text(_written(values.get(column, ""))) for column in columns))
        output.print(grid)


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(title: str, *columns: str) -> Table:
    """Return a table whose first column is of words, the others of numbers."""
    from rich.table import Table

    made = Table(title=title)
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left")
    return made


def screen(stderr: bool = True) -> Console:
    """Return the terminal: standard error for what happens, standard output for results."""
    from rich.console import Console

    return Console(stderr=stderr)
