"""``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_models.console import print_figures
from sw_models.errors import InputError
from sw_models.files import want_new_file
from sw_sparse.openmmlab.app.options import (
    CheckpointOption,
    CommandWithOptions,
    JsonOption,
    OptionsOption,
    RunOption,
)
from sw_sparse.openmmlab.config import find_run, load_config
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=CommandWithOptions)
    def export(
        out: Annotated[Path, typer.Argument(help="The new file.")],
        run: RunOption = None,
        checkpoint: CheckpointOption = None,
        form: Annotated[str, typer.Option("--format", help="onnx, torchscript or exported.")] = "onnx",
        size: Annotated[int, typer.Option(min=32, help="Height and width of the images.")] = 512,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Write the model in deployed form, run the file, and compare it with the model."""
        from sw_models.export import FORMATS

        if form not in FORMATS:
            raise InputError(f"--format: got {form}, want one of {', '.join(FORMATS)}")
        want_new_file("OUT", out)
        config, folder = find_run(task, run, checkpoint)
        cfg = load_config(task, config, options or ())
        from sw_sparse.openmmlab.checkpoint import find_checkpoint, load_model

        model = load_model(cfg, checkpoint or find_checkpoint(folder))
        try:
            difference = task.export(model.cpu(), out, form, size)
        except ModuleNotFoundError as error:
            raise InputError(
                f"--format: {form} needs {error.name}, which pip install '{task.command}[onnx]' brings"
            ) from error
        print_figures({"file": str(out), "format": form, "relative difference": difference}, as_json, "export")
