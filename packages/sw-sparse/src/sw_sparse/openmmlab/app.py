"""The commands that all tasks share."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sw_models.errors import InputError
from sw_sparse.openmmlab.config import find_config, list_configs, load_config
from sw_sparse.openmmlab.task import Task

ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="[CONFIG]", help="A shipped configuration's name, or a file.")
]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's folder, a configuration's name, or a file.")
]
RunOption = Annotated[str | None, typer.Option("--run", help="A run's folder, a configuration's name, or a file.")]
DataOption = Annotated[Path | None, typer.Option(help="Data folder; see the README for its layout.")]
CheckpointOption = Annotated[Path | None, typer.Option(help="Weights of the whole model. Default: the run's best.")]
OptionsOption = Annotated[
    list[str] | None, typer.Option("--cfg-options", help="Change the configuration: key=value; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

FORMATS = ("onnx", "torchscript", "exported")


def build_app(task: Task) -> typer.Typer:
    """Return the program of a task: train, test, predict, flops, show-config, export, convert."""
    app = typer.Typer(help=task.summary, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.command()
    @_bad_input_in_one_line
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
        workers: Annotated[int | None, typer.Option(min=0, help="Processes that load data.")] = None,
        seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Train; without arguments, a small model on drawn shapes. A killed run continues when started again."""
        name = config or (task.default_config if data else task.sample_config)
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
        summary = run_training(task, cfg, out or _run_folder(name))
        if _is_first_process():
            _print(summary, as_json, "training")

    @app.command()
    @_bad_input_in_one_line
    def test(
        run: RunArgument = None,
        data: DataOption = None,
        checkpoint: CheckpointOption = None,
        tta: Annotated[bool, typer.Option("--tta", help="Average over scales and flips.")] = False,
        workers: Annotated[int | None, typer.Option(min=0, help="Processes that load data.")] = None,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Measure a checkpoint on the test images."""
        config, folder = _find_run(task, run, checkpoint)
        cfg = load_config(task, config, options or (), data)
        from sw_sparse.openmmlab import settings
        from sw_sparse.openmmlab.runner import find_checkpoint
        from sw_sparse.openmmlab.runner import test as run_test

        if workers is not None:
            settings.use_workers(cfg, workers)
        if tta:
            settings.use_augmented_tests(cfg)
        metrics = run_test(cfg, checkpoint or find_checkpoint(folder), folder / "test")
        if _is_first_process():
            _print(metrics, as_json, "test")

    @app.command()
    @_bad_input_in_one_line
    def predict(
        images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
        run: RunOption = None,
        checkpoint: CheckpointOption = None,
        out: Annotated[Path | None, typer.Option(help="A new folder. Default: RUN/predictions/001, 002, ...")] = None,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Write pictures of what the model sees in images, and a file of it for programs."""
        files = _image_files(images)
        config, folder = _find_run(task, run, checkpoint)
        cfg = load_config(task, config, options or ())
        from rich.progress import track

        from sw_sparse.openmmlab.runner import find_checkpoint, load_model

        model = load_model(cfg, checkpoint or find_checkpoint(folder))
        out = _new_folder(out, folder / "predictions")
        records = list(
            track(task.predict(model, files, out), "predicting", len(files), transient=True, console=_screen())
        )
        if as_json:
            print(json.dumps({"folder": str(out), "images": records}))
        else:
            print(f"{len(records)} images: {out}/")

    @app.command()
    @_bad_input_in_one_line
    def flops(
        config: ConfigArgument = None,
        size: Annotated[tuple[int, int], typer.Option(help="Height and width of the image.")] = task.complexity_size,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Count parameters and multiply-accumulates of one image, by part of the model."""
        cfg = load_config(task, config or task.default_config, options or ())
        from sw_sparse.openmmlab.runner import load_model

        rows = task.complexity(load_model(cfg), size)
        counts = ("parameters", "MACs", "MACs, fused")
        rows.append({"part": "total", **{key: sum(row[key] for row in rows) for key in counts}})
        if as_json:
            print(json.dumps({"height": size[0], "width": size[1], "parts": rows}))
            return
        table = _table(f"image of {size[0]}x{size[1]}", "part", "parameters, M", "MACs, G", "MACs, fused, G")
        for row in rows:
            table.add_row(row["part"], *(f"{row[key] / (1e6 if key == 'parameters' else 1e9):.2f}" for key in counts))
        _screen(stderr=False).print(table)

    @app.command("show-config")
    @_bad_input_in_one_line
    def show_config(
        config: ConfigArgument = None,
        data: DataOption = None,
        path: Annotated[bool, typer.Option("--path", help="Print where the file is, to inherit from it.")] = False,
        options: OptionsOption = None,
    ) -> None:
        """List the shipped configurations, or print one completely, to be changed and trained."""
        if config is None:
            print("\n".join(list_configs(task)))
        elif path:
            print(find_config(task, config).resolve())
        else:
            print(load_config(task, config, options or (), data).pretty_text)

    @app.command()
    @_bad_input_in_one_line
    def export(
        out: Annotated[Path, typer.Argument(help="The new file.")],
        run: RunOption = None,
        checkpoint: CheckpointOption = None,
        form: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")] = "onnx",
        size: Annotated[int, typer.Option(min=32, help="Height and width of the images.")] = 512,
        options: OptionsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Write the model in deployed form, run the file, and compare it with the model."""
        if form not in FORMATS:
            raise InputError(f"--format: got {form}, want one of {', '.join(FORMATS)}")
        _want_new(out)
        config, folder = _find_run(task, run, checkpoint)
        cfg = load_config(task, config, options or ())
        from sw_sparse.openmmlab.runner import find_checkpoint, load_model

        model = load_model(cfg, checkpoint or find_checkpoint(folder))
        try:
            difference = task.export(model.cpu(), out, form, size)
        except ModuleNotFoundError as error:
            raise InputError(
                f"--format: {form} needs {error.name}, which pip install '{task.command}[onnx]' brings"
            ) from error
        _print({"file": str(out), "format": form, "relative difference": difference}, as_json, "export")

    @app.command()
    @_bad_input_in_one_line
    def convert(
        foreign: Annotated[Path, typer.Argument(help="A checkpoint that another program wrote.")],
        out: Annotated[Path, typer.Argument(help="The new .pth file.")],
        config: Annotated[str, typer.Option(help="The configuration whose model it belongs to.")],
        as_json: JsonOption = False,
    ) -> None:
        """Make a checkpoint of a published or foreign one: its tensors alone; nothing else in it is trusted or run."""
        _want_new(out)
        cfg = load_config(task, config)
        from sw_sparse.openmmlab.checkpoint import convert_foreign

        _print(convert_foreign(foreign, out, cfg), as_json, "converted")

    return app


def _bad_input_in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end with exit status 2 and one line where the input is to blame."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            if _is_first_process():
                line = f"error: {' '.join(str(error).split())}"
                _screen().print(line, style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None

    return wrapper


def _find_run(task: Task, run: str | None, checkpoint: Path | None) -> tuple[str, Path]:
    """Return the configuration and the folder of a run; a run's own copy of a configuration comes first."""
    if run is None and checkpoint is not None and (checkpoint.parent / "config.py").is_file():
        return str(checkpoint.parent), checkpoint.parent
    if run is None and checkpoint is not None:
        raise InputError(f"--checkpoint: there is no config.py beside {checkpoint}; name its configuration as well")
    name = run or task.sample_config
    folder = _run_folder(name)
    if (folder / "config.py").is_file() and (checkpoint is None or folder == Path(name)):
        return str(folder), folder
    find_config(task, name)
    return name, folder


def _run_folder(name: str) -> Path:
    """Return the folder of a run that is named by it, or by its configuration."""
    return Path(name) if (Path(name) / "config.py").is_file() else Path("runs") / Path(name).stem


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0  # torchrun numbers its processes so


def _image_files(paths: Sequence[Path]) -> list[Path]:
    suffixes = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
    files = []
    for path in paths:
        inside = sorted(f for f in path.iterdir() if f.suffix.lower() in suffixes) if path.is_dir() else [path]
        if not inside or not inside[0].is_file():
            raise InputError(f"images: {path} is no image file and no folder with any")
        files += inside
    names = [file.stem for file in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"images: two are called {min(twice)}, want different names as the results are named after them"
        )
    return files


def _new_folder(wanted: Path | None, numbered: Path) -> Path:
    if wanted is None:
        taken = [int(path.name) for path in numbered.glob("[0-9]*") if path.name.isdigit()]
        wanted = numbered / f"{max(taken, default=0) + 1:03}"
    elif wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(f"--out: {wanted} exists, want a new folder")
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def _want_new(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path} exists, want the name of a new file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.absolute().parent}")


def _print(figures: Mapping[str, Any], as_json: bool, title: str) -> None:
    """Print figures; those named "column/row" share a table of rows and columns."""
    if as_json:
        print(json.dumps(figures))
        return
    table = _table(title, "", "")
    table.show_header = False
    cells: dict[str, dict[str, Any]] = {}
    for name, value in figures.items():
        column, slash, row = name.partition("/")
        if slash:
            cells.setdefault(row, {})[column] = value
        else:
            table.add_row(name, _written(value))
    screen = _screen(stderr=False)
    if table.rows:
        screen.print(table)
    if cells:
        columns = list(dict.fromkeys(column for row in cells.values() for column in row))
        grid = _table(title, "", *columns)
        for row, values in cells.items():
            grid.add_row(row, *(_written(values.get(column, "")) for column in columns))
        screen.print(grid)


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table


def _screen(stderr: bool = True) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)
