"""``test``."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

import typer

from sw_models.console import is_first_process, print_figures
from sw_sparse.openmmlab.app.options import (
    CheckpointOption,
    DataOption,
    JsonOption,
    OptionsOption,
    RunArgument,
    WorkersOption,
    command_of,
)
from sw_sparse.openmmlab.config import find_run, load_config
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=command_of(task))
    def test(
        run: RunArgument = None,
        data: DataOption = None,
        checkpoint: CheckpointOption = None,
        split: Annotated[
            str | None, typer.Option(help="Of the data: test. Default: val, which chose the best.")
        ] = None,
        tta: Annotated[bool, typer.Option("--tta", help="Average over scales and flips.")] = False,
        workers: WorkersOption = None,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Measure a checkpoint on the test images."""
        config, folder = find_run(task, run, checkpoint)
        converted = folder / "test" / f"data-{sha256(str(data.resolve()).encode()).hexdigest()[:8]}" if data else None
        cfg = load_config(task, config, options or (), data, converted)
        if split and task.use_split:
            task.use_split(cfg, split)
        from sw_models.allocator import keep_freed_memory
        from sw_sparse.openmmlab import settings
        from sw_sparse.openmmlab.checkpoint import find_checkpoint
        from sw_sparse.openmmlab.runner import test as run_test

        if workers is not None:
            settings.use_workers(cfg, workers)
        if tta:
            settings.use_augmented_tests(cfg)
        keep_freed_memory()
        metrics = run_test(cfg, checkpoint or find_checkpoint(folder), folder / "test")
        if is_first_process():
            print_figures(metrics, as_json, "test")
