"""The program that all tasks share, with a file for each command."""

from __future__ import annotations

import typer

from sw_models.console import program
from sw_sparse.openmmlab.app import check, convert, convert_data, export, flops, predict, show_config, test, train
from sw_sparse.openmmlab.task import Task


def build_app(task: Task) -> typer.Typer:
    """Return the program of a task."""
    app = program(task.command, task.summary)
    for command in (check, convert_data, train, test, predict, flops, show_config, export, convert):
        command.add_to(app, task)
    return app
