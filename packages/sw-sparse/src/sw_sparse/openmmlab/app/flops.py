"""``flops``."""

from __future__ import annotations

from typing import Annotated

import typer

from sw_models.console import print_json
from sw_sparse.openmmlab.app.console import one_of_many, screen, table
from sw_sparse.openmmlab.app.options import CommandWithOptions, ConfigArgument, JsonOption, OptionsOption
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=CommandWithOptions)
    @one_of_many
    def flops(
        config: ConfigArgument = None,
        size: Annotated[tuple[int, int], typer.Option(help="Height and width of the image.")] = task.complexity_size,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Count parameters and multiply-accumulates of one image, by part of the model."""
        cfg = load_config(task, config or task.default_config, options or ())
        from sw_sparse.openmmlab.checkpoint import load_model

        rows = task.complexity(load_model(cfg), size)
        counts = ("parameters", "MACs", "MACs, fused")
        rows.append({"part": "total", **{key: sum(row[key] for row in rows) for key in counts}})
        if as_json:
            print_json({"height": size[0], "width": size[1], "parts": rows})
            return
        shown = table(f"image of {size[0]}x{size[1]}", "part", "parameters, M", "MACs, G", "MACs, fused, G")
        for row in rows:
            shown.add_row(row["part"], *(f"{row[key] / (1e6 if key == 'parameters' else 1e9):.2f}" for key in counts))
        screen(stderr=False).print(shown)
