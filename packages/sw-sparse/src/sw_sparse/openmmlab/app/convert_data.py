"""``convert-data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sw_models.console import print_figures
from sw_models.errors import InputError
from sw_sparse.openmmlab.app.options import JsonOption, command_of
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program, if the task has other forms of data."""
    convert = task.convert_data
    if convert is None:
        return

    @app.command("convert-data", cls=command_of(task))
    def convert_data(
        data: Annotated[Path, typer.Argument(metavar="IN", help="A data folder in any form that training reads.")],
        out: Annotated[Path, typer.Argument(help="The new folder.")],
        columns: Annotated[
            str | None, typer.Option(help="Of text files with an object in each line: 'x1 y1 x2 y2 class'.")
        ] = None,
        copy: Annotated[bool, typer.Option("--copy", help="Copy the images instead of linking to them.")] = False,
        val_share: Annotated[float, typer.Option(help="Of the images, where there is no split for validation.")] = 0.2,
        seed: Annotated[int, typer.Option(help="Of the split that is made.")] = 0,
        as_json: JsonOption = False,
    ) -> None:
        """Write a data folder in the program's own form: what it reads is what others wrote."""
        if not data.is_dir():
            raise InputError(f"IN: no folder {data}")
        if out.exists():
            raise InputError(f"OUT: got {out}, which is already there, want a new folder")
        options: dict[str, Any] = {"val_share": val_share, "seed": seed}
        if columns:
            options["columns"] = columns
        print_figures(convert(data.resolve(), out.absolute(), options, copy), as_json, "converted")
