"""``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_models.console import is_first_process, print_figures
from sw_sparse.openmmlab.app.options import (
    CommandWithOptions,
    ConfigArgument,
    DataOption,
    JsonOption,
    OptionsOption,
    WorkersOption,
)
from sw_sparse.openmmlab.config import load_config, run_folder
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=CommandWithOptions)
    def train(
        config: ConfigArgument = None,
        data: DataOption = None,
        checkpoint: Annotated[Path | None, typer.Option(help="Weights for the backbone to start from.")] = None,
        out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/CONFIG.")] = None,
        sparse: Annotated[
            str | None, typer.Option(help="'keep' the zeros of a sparse checkpoint, or a share to switch off.")
        ] = None,
        amp: Annotated[bool, typer.Option("--amp", help="Mixed precision.")] = False,
        grad_checkpointing: Annotated[
            bool, typer.Option("--grad-checkpointing", help="Less memory, more time.")
        ] = False,
        workers: WorkersOption = None,
        seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Train; without arguments, a small model on drawn shapes. A killed run continues when started again."""
        name = config or (task.config_for(data) if data else task.sample_config)
        cfg = load_config(task, name, options or (), data)
        from sw_sparse.openmmlab import settings
        from sw_sparse.openmmlab.runner import train as run_training

        if checkpoint:
            settings.use_pretrained(cfg, checkpoint)
        if sparse:
            settings.use_sparsity(cfg, sparse)
        if amp:
            settings.use_mixed_precision(cfg)
        if grad_checkpointing:
            cfg.model.backbone.grad_checkpointing = True
        if workers is not None:
            settings.use_workers(cfg, workers)
        cfg.randomness = {"seed": seed}
        summary = run_training(task, cfg, out or run_folder(name))
        if is_first_process():
            print_figures(summary, as_json, "training")
