"""``sw-sparse train`` and ``sw-sparse eval``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sw_models.errors import InputError
from sw_sparse.trainer.callbacks import Callback
from sw_sparse.trainer.recipe import Recipe, read_recipe, shipped_recipes

app = typer.Typer(
    help="Train image classifiers with dynamic sparsity.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

_EVALUATION_OPTIONS = (
    "dataset", "data_dir", "val_split", "num_classes", "workers", "input_size", "crop_pct", "interpolation", "mean",
    "std", "model", "model_args", "batch_size", "amp",
)  # fmt: skip


def _with_recipe_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every field of the recipe, or for the named ones; it gets those given as flags."""
    fields = [field for field in dataclasses.fields(Recipe) if not names or field.name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:
            given = {f.name: arguments.pop(f.name) for f in fields}
            try:
                flags = {name: _parsed(name, value) for name, value in given.items() if value not in (None, [])}
                command(flags=flags, **arguments)
            except InputError as error:
                _fail(str(error))
            except OSError as error:  # the machine's: a full disk, a folder that vanished
                _fail(f"{error.filename or 'output'}: {error.strerror or error}")

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "flags"]
        wrapper.__signature__ = inspect.Signature([*own, *map(_parameter, fields)])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in wrapper.__signature__.parameters.values()}  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _parameter(field: dataclasses.Field) -> inspect.Parameter:
    """Return a command line option for a field of the recipe; None stands for "not given"."""
    annotation = str(field.type)
    if annotation.startswith("dict"):
        kind: Any = str
    elif annotation.startswith("tuple[float"):
        kind = tuple[(float,) * (annotation.count("float"))]  # type: ignore[misc]
    elif annotation.startswith("tuple"):
        kind = list[str]
    else:
        kind = {"int": int, "float": float, "bool": bool, "str": str}[annotation.split(" | ")[0]]
    default = "" if field.default is dataclasses.MISSING else f" [default: {field.default}]"
    option = typer.Option(help=field.metadata["help"] + default, show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _parsed(name: str, value: Any) -> Any:
    if name not in ("model_args", "opt_args"):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: got {value!r}, want YAML such as '{{n_rep: 2}}'") from error


@app.command("train")
@_with_recipe_options()
def train_command(
    *,
    config: Annotated[
        str | None, typer.Option(help=f"a YAML file, or a shipped recipe: {', '.join(shipped_recipes())}")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
    flags: dict[str, Any],
) -> None:
    """Train a model; without data, a small one on handwritten digits. A killed run continues when started again."""
    from sw_sparse.trainer.interruption import Interrupted
    from sw_sparse.trainer.loop import train  # seconds of imports that --help need not wait for

    if config is None and "data_dir" not in flags and "dataset" not in flags:
        config = "digits"
    recipe = read_recipe(config, flags)
    try:
        with _Bars(recipe) as bars:
            summary = train(recipe, bars)
    except Interrupted as stop:
        console.print(str(stop), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(stop.exit_code) from stop
    if int(os.environ.get("RANK", "0")):  # torchrun's name for the others
        return
    if as_json:
        print(json.dumps(summary, allow_nan=False))
    else:
        _print_figures(f"{recipe.model} on {recipe.dataset}", summary)
        console.print(f"weights, log and pictures: {recipe.output}/")


@app.command("eval")
@_with_recipe_options(*_EVALUATION_OPTIONS)
def eval_command(
    *,
    checkpoint: Annotated[Path, typer.Option(help="a run's model.safetensors, one of its checkpoints, or weights")],
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
    flags: dict[str, Any],
) -> None:
    """Evaluate weights on the data they were tested on, or on other data. Other programs' weights need --model."""
    from sw_sparse.trainer.evaluate import evaluate_checkpoint

    columns = TextColumn("{task.completed} images"), BarColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        figures = evaluate_checkpoint(checkpoint, flags, lambda images: progress.advance(task, images))
    if as_json:
        print(json.dumps(figures, allow_nan=False))
    else:
        _print_figures(str(checkpoint), figures)


class _Bars(Callback):
    """Progress bars: one over the epoch, with its speed, and a line of figures after each."""

    def __init__(self, recipe: Recipe) -> None:
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(recipe.epochs)),
            BarColumn(),
            TextColumn("{task.fields[speed]:.0f} images/s, loss {task.fields[loss]:.3f}, run ends in"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a line."""
        console.print(text)

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


def _print_figures(title: str, figures: dict[str, Any]) -> None:
    table = Table(title=title, show_header=False)
    for name, value in figures.items():
        if not isinstance(value, dict):
            table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    Console().print(table)


def _fail(message: str) -> NoReturn:
    console.print(f"error: {' '.join(message.split())}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
