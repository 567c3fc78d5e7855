"""``sw-sparse train``, ``sw-sparse eval`` and ``sw-sparse compact``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from sw_models.console import Bars, is_first_process, print_figures, program
from sw_sparse.trainer.callbacks import Callback
from sw_sparse.trainer.options import flags_of
from sw_sparse.trainer.recipe import Recipe, read_recipe, shipped_recipes

app = program("sw-sparse", "Train image classifiers with dynamic sparsity.")
console = Console(stderr=True)

_EVALUATION_OPTIONS = (
    "dataset", "data_dir", "val_split", "num_classes", "workers", "input_size", "crop_pct", "interpolation", "mean",
    "std", "model", "model_args", "batch_size", "amp",
)  # fmt: skip


@app.command("train")
@flags_of(Recipe)
def train_command(
    *,
    config: Annotated[
        str | None, typer.Option(help=f"a YAML file, or a shipped recipe: {', '.join(shipped_recipes())}")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
    flags: dict[str, Any],
) -> None:
    """Train a model; without data, a small one on handwritten digits. A killed run continues when started again."""
    from sw_models.allocator import keep_freed_memory
    from sw_sparse.trainer.loop import train  # seconds of imports that --help need not wait for

    if config is None and "data_dir" not in flags and "dataset" not in flags:
        config = "digits"
    recipe = read_recipe(config, flags)
    keep_freed_memory()
    with _Bars(recipe) as bars:
        summary = train(recipe, bars)
    if is_first_process():
        print_figures(summary, as_json, f"{recipe.model} on {recipe.dataset}")
        console.print(f"weights, log and pictures: {recipe.output}/", markup=False, highlight=False, soft_wrap=True)


@app.command("eval")
@flags_of(Recipe, *_EVALUATION_OPTIONS)
def eval_command(
    *,
    checkpoint: Annotated[Path, typer.Option(help="a run's model.safetensors, one of its checkpoints, or weights")],
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
    flags: dict[str, Any],
) -> None:
    """Evaluate weights on the data they were tested on, or on other data. Other programs' weights need --model."""
    from sw_sparse.trainer.evaluate import evaluate_checkpoint

    columns = TextColumn("{task.completed} images"), BarColumn()
    with Bars(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        figures = evaluate_checkpoint(checkpoint, flags, lambda images: progress.advance(task, images))
    print_figures(figures, as_json, str(checkpoint))


@app.command("compact")
def compact_command(
    checkpoint: Annotated[Path, typer.Argument(help="a run's model.safetensors, or one of its checkpoints")],
    *,
    output: Annotated[
        Path | None, typer.Option(help="the file to write [default: compact.safetensors beside CHECKPOINT]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Write a run's model without the units that are off: smaller, dense, the same function."""
    from sw_sparse.trainer.artifacts import compact_checkpoint

    print_figures(compact_checkpoint(checkpoint, output), as_json, str(checkpoint))


class _Bars(Callback):
    """Progress bars: one over the epoch, with its speed, and a line of figures after each."""

    def __init__(self, recipe: Recipe) -> None:
        self._progress = Bars(
            TextColumn("epoch {task.fields[epoch]}/" + str(recipe.epochs)),
            BarColumn(),
            TextColumn("{task.fields[speed]:.0f} images/s, loss {task.fields[loss]:.3f}, run ends in"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: Any = None

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a line."""
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start_epoch(self, epoch: int, epochs: int, images: int, done: int = 0) -> None:
        """Show the run's bar, which covers all its epochs."""
        if self._task is None:
            self._task = self._progress.add_task(
                "",
                total=images * epochs,
                completed=images * epoch + done,
                epoch=epoch + 1,
                speed=0.0,
                loss=float("nan"),
            )
        self._progress.update(self._task, completed=images * epoch + done, epoch=epoch + 1)

    def advance(self, images: int, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=images, loss=loss, speed=self._progress.tasks[0].speed or 0.0)

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Print the epoch's figures."""
        console.print(
            f"epoch {record['epoch'] + 1:4}  training loss {record['train_loss']:.4f}  validation loss "
            f"{record['loss']:.4f}  top-1 {record['top1']:.2f} %  {record['seconds']:.1f} s"
        )


if __name__ == "__main__":
    app()
