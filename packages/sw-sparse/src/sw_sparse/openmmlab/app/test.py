"""``test``."""

from __future__ import annotations

from typing import Annotated

import typer

from sw_models.console import is_first_process, print_figures
from sw_sparse.openmmlab.app.options import (
    CheckpointOption,
    CommandWithOptions,
    DataOption,
    JsonOption,
    OptionsOption,
    RunArgument,
    WorkersOption,
)
from sw_sparse.openmmlab.config import find_run, load_config
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=CommandWithOptions)
    def test(
        run: RunArgument = None,
        data: DataOption = None,
        checkpoint: CheckpointOption = None,
        tta: Annotated[bool, typer.Option("--tta", help="Average over scales and flips.")] = False,
        workers: WorkersOption = None,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Measure a checkpoint on the test images."""
        config, folder = find_run(task, run, checkpoint)
        cfg = load_config(task, config, options or (), data)
        from sw_sparse.openmmlab import settings
        from sw_sparse.openmmlab.checkpoint import find_checkpoint
        from sw_sparse.openmmlab.runner import test as run_test

        if workers is not None:
            settings.use_workers(cfg, workers)
        if tta:
            settings.use_augmented_tests(cfg)
        metrics = run_test(cfg, checkpoint or find_checkpoint(folder), folder / "test")
        if is_first_process():
            print_figures(metrics, as_json, "test")
