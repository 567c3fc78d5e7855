"""``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_models.console import Bars, print_json
from sw_models.files import new_folder
from sw_models.sources import find_sources
from sw_sparse.openmmlab.app.options import (
    CheckpointOption,
    JsonOption,
    OptionsOption,
    RunOption,
    command_of,
)
from sw_sparse.openmmlab.config import find_run, load_config
from sw_sparse.openmmlab.task import Task
from sw_sparse.openmmlab.tiles import MIN_TILE


def add_to(app: typer.Typer, task: Task) -> None:
    """Add the command to a task's program."""

    @app.command(cls=command_of(task))
    def predict(
        images: Annotated[list[str], typer.Argument(help="Images, videos, folders of them, patterns like 'a/*.png'.")],
        run: RunOption = None,
        checkpoint: CheckpointOption = None,
        out: Annotated[Path | None, typer.Option(help="A new folder. Default: RUN/predictions/001, 002, ...")] = None,
        threshold: Annotated[
            float | None, typer.Option(min=0, max=1, help="Objects with a lower score are left out. Default: 0.3.")
        ] = None,
        tile: Annotated[
            int | None, typer.Option(min=MIN_TILE, help="See images that are larger in tiles of so many pixels.")
        ] = None,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Write pictures of what the model sees in images, and a file of it for programs.

        A file that cannot be read is named at the end, and the exit status is 3.
        """
        config, folder = find_run(task, run, checkpoint)
        sources = find_sources(images, leave_out=out or folder / "predictions")
        cfg = load_config(task, config, options or ())
        from rich.console import Console

        from sw_models.allocator import keep_freed_memory
        from sw_sparse.openmmlab.checkpoint import find_checkpoint, load_model

        keep_freed_memory()
        model = load_model(cfg, checkpoint or find_checkpoint(folder))
        out = new_folder("--out", out, folder / "predictions")
        stated = {name: value for name, value in (("threshold", threshold), ("tile", tile)) if value is not None}
        with Bars(transient=True, console=Console(stderr=True)) as bars:
            records = list(bars.track(task.predict(model, sources, out, stated), None, description="predicting"))
        seen = [record for record in records if "error" not in record]
        failed = [record for record in records if "error" in record]
        if as_json:
            print_json({"folder": str(out), "images": seen, "failed": failed})
        else:
            print(f"{len(seen)} images: {out}/")
        for record in failed:
            typer.echo(f"not read: {record['image']}: {record['error']}", err=True)
        if failed:
            raise typer.Exit(3)
