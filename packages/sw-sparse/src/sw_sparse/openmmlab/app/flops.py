"""``flops``."""

from __future__ import annotations

from typing import Annotated

import typer

from sw_models.console import print_json, print_rows
from sw_models.errors import InputError
from sw_sparse.openmmlab.app.options import CommandWithOptions, ConfigArgument, JsonOption, OptionsOption
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.task import Task

SMALLEST = 32  # pixels of a side, of which one is left after a backbone's last stage


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=CommandWithOptions)
    def flops(
        config: ConfigArgument = None,
        size: Annotated[tuple[int, int], typer.Option(help="Height and width of the image.")] = task.complexity_size,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Count parameters and multiply-accumulates of one image, by part of the model."""
        if min(size) < SMALLEST:
            raise InputError(f"--size: got {size[0]} {size[1]}, want {SMALLEST} pixels or more")
        cfg = load_config(task, config or task.default_config, options or ())
        from sw_sparse.openmmlab.checkpoint import load_model

        rows = task.complexity(load_model(cfg), size)
        counts = ("parameters", "MACs", "MACs, fused")
        rows.append({"part": "total", **{key: sum(row[key] for row in rows) for key in counts}})
        if as_json:
            print_json({"height": size[0], "width": size[1], "parts": rows})
            return
        units = {"parameters": ("M", 1e6), "MACs": ("G", 1e9), "MACs, fused": ("G", 1e9)}
        shown = [
            {"part": row["part"]} | {f"{key}, {letter}": row[key] / size for key, (letter, size) in units.items()}
            for row in rows
        ]
        print_rows(shown, False, f"image of {size[0]}x{size[1]}")
