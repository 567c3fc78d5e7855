"""``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_models.console import print_figures
from sw_models.files import want_new_file
from sw_sparse.openmmlab.app.options import CommandWithOptions, JsonOption
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=CommandWithOptions)
    def convert(
        foreign: Annotated[Path, typer.Argument(help="A checkpoint that another program wrote.")],
        out: Annotated[Path, typer.Argument(help="The new .pth file.")],
        config: Annotated[str, typer.Option(help="The configuration whose model it belongs to.")],
        as_json: JsonOption = False,
    ) -> None:
        """Make a checkpoint of a published or foreign one: its tensors alone; nothing else in it is trusted or run."""
        want_new_file("OUT", out)
        cfg = load_config(task, config)
        from sw_sparse.openmmlab.checkpoint import convert_foreign

        print_figures(convert_foreign(foreign, out, cfg), as_json, "converted")
