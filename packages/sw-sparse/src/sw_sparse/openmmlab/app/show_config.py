"""``show-config``."""

from __future__ import annotations

from typing import Annotated

import typer

from sw_sparse.openmmlab.app.options import CommandWithOptions, ConfigArgument, DataOption, OptionsOption
from sw_sparse.openmmlab.config import find_config, list_configs, load_config
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command("show-config", cls=CommandWithOptions)
    def show_config(
        config: ConfigArgument = None,
        data: DataOption = None,
        path: Annotated[bool, typer.Option("--path", help="Print where the file is, to inherit from it.")] = False,
        options: OptionsOption = None,
    ) -> None:
        """List the shipped configurations, or print one completely, to be changed and trained."""
        if config is None:
            print("\n".join(list_configs(task)))
        elif path:
            print(find_config(task, config).resolve())
        else:
            print(load_config(task, config, options or (), data).pretty_text)
