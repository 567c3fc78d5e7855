"""The program that all tasks share, a command per file: train, test, predict, flops, show-config, export, convert."""

from __future__ import annotations

import typer

from sw_models.console import program
from sw_sparse.openmmlab.app import convert, export, flops, predict, show_config, test, train
from sw_sparse.openmmlab.task import Task


def build_app(task: Task) -> typer.Typer:
    """Return the program of a task."""
    app = program(task.command, task.summary)
    for command in (train, test, predict, flops, show_config, export, convert):
        command.add_to(app, task)
    return app
