"""``check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_models.console import print_json
from sw_models.errors import InputError
from sw_models.files import want_new_file, write_atomically
from sw_sparse.openmmlab.app.options import CommandWithOptions, JsonOption, OptionsOption
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=CommandWithOptions)
    def check(
        data: Annotated[Path, typer.Argument(help="Data folder; see the README for its layout.")],
        out: Annotated[
            Path | None, typer.Option(help="PNG of images with their labels. Default: check-DATA.png here.")
        ] = None,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Look at every file of a data folder: what is found, what is left out and why, what training refuses.

        Draws images with their labels, to be looked at; exits with 2 where something has to be mended.
        """
        if not data.is_dir():
            raise InputError(f"DATA: no folder {data}")
        picture = out or Path(f"check-{data.resolve().name}.png")
        if out is not None:
            want_new_file("--out", out)
        cfg = load_config(task, task.default_config, options or ())
        from sw_sparse.openmmlab.data_report import print_report

        report, draw = task.check(data.resolve(), cfg.data_options)
        drawn = None if report.refused else str(picture)
        if drawn:
            sheet = draw()
            write_atomically(picture, lambda file: sheet.save(file, "PNG"))
        if as_json:
            print_json({**report.as_dict(), "contact_sheet": drawn})
        else:
            print_report(report, stderr=False)
            if drawn:
                print(f"look at: {drawn}")
        report.want_good()
