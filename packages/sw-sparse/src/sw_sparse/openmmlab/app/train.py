"""``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_models.console import is_first_process, print_figures
from sw_models.errors import InputError
from sw_sparse.openmmlab.app.options import (
    ConfigArgument,
    DataOption,
    JsonOption,
    OptionsOption,
    WorkersOption,
    command_of,
)
from sw_sparse.openmmlab.config import data_options, load_config, run_folder
from sw_sparse.openmmlab.task import Task


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=command_of(task))
    def train(
        config: ConfigArgument = None,
        data: DataOption = None,
        checkpoint: Annotated[Path | None, typer.Option(help="Weights for the backbone to start from.")] = None,
        masks: Annotated[str | None, typer.Option(help="'off' learns boxes alone, whatever the data have.")] = None,
        out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/CONFIG.")] = None,
        sparse: Annotated[
            str | None, typer.Option(help="'keep' the zeros of a sparse checkpoint, or a share to switch off.")
        ] = None,
        amp: Annotated[bool, typer.Option("--amp", help="Mixed precision.")] = False,
        grad_checkpointing: Annotated[
            bool, typer.Option("--grad-checkpointing", help="Less memory, more time.")
        ] = False,
        size: Annotated[
            int | None, typer.Option(min=32, max=8192, help="Pixels of images' shorter side, or of crops.")
        ] = None,
        epochs: Annotated[int | None, typer.Option(min=1, help="How often to train with every image.")] = None,
        iterations: Annotated[int | None, typer.Option(min=1, help="How many batches to train with.")] = None,
        batch: Annotated[
            str | None, typer.Option(help="Images in a batch of a process; auto: what memory holds.")
        ] = None,
        lr: Annotated[float | None, typer.Option(help="Learning rate. Default: what suits the batch.")] = None,
        patience: Annotated[
            int | None, typer.Option(min=1, help="Stop after so many validations without a better one.")
        ] = None,
        workers: WorkersOption = None,
        seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Train; without arguments, a small model on drawn shapes. A killed run continues when started again."""
        options = [*(options or ()), *([f"data_options.masks={masks}"] if masks else [])]
        if data and not data.is_dir():
            raise InputError(f"--data: no folder {data}")
        name = config or (task.config_for(data, data_options(options)) if data else task.sample_config)
        folder = out or run_folder(name)
        cfg = load_config(task, name, options, data, folder / "data")
        from sw_models.allocator import keep_freed_memory
        from sw_sparse.openmmlab import schedule, settings
        from sw_sparse.openmmlab.report import write_report
        from sw_sparse.openmmlab.run_config import find_run_config, read_data
        from sw_sparse.openmmlab.runner import train as run_training

        suited = cfg.pop("suited_size", None)
        if size := size or suited:
            schedule.use_size(cfg, size)
        if batch == "auto" and (earlier := find_run_config(folder)):
            batch = str(read_data(earlier)["train_dataloader"]["batch_size"])  # for memory may have been freer then
        if batch is not None:
            cfg.train_dataloader.batch_size = schedule.batch_size(cfg, batch)
        if epochs is not None and iterations is not None:
            raise InputError("--epochs: got --iterations besides, want one of them")
        if epochs is not None:
            schedule.use_epochs(cfg, epochs)
        if iterations is not None:
            schedule.use_iterations(cfg, iterations)
        if lr is not None:
            schedule.use_learning_rate(cfg, lr)
        if patience is not None:
            schedule.use_patience(cfg, patience)
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
        keep_freed_memory()
        summary = run_training(task, cfg, folder)
        if is_first_process():
            summary["report"] = write_report(task, cfg, folder, summary)
            print_figures(summary, as_json, "training")
