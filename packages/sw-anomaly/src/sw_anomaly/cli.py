"""The command `sw-anomaly`. Heavy imports wait until a command runs, so that `--help` answers at once."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from sw_anomaly.errors import InputError

if TYPE_CHECKING:
    from sw_anomaly.dataset import Category
    from sw_anomaly.evaluation import Evaluation, Scores
    from sw_anomaly.progress import Progress
    from sw_anomaly.training import TrainingConfig

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find defects in images of industrial parts after seeing good parts only.",
)
screen = Console(stderr=True, highlight=False)  # what is going on; standard output is for results

CategoryOption = Annotated[str, typer.Option("--category", help="Name of the category's folder, such as bottle.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder in MVTec AD layout. Default: an embedded SYNTHETIC sample.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Where the folder <category>/<number> of this run is made.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _bad_input_in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            screen.print(f"sw-anomaly: {error}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(2) from None

    return wrapped


@app.command()
@_bad_input_in_one_line
def train(
    category: CategoryOption,
    data: DataOption = None,
    model: Annotated[str, typer.Option(help="swnano, swtiny, swtiny_pp or vanilla.")] = "swnano",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs, of 64 batches of 8 images each.")] = 10,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels, a multiple of 32. Default: that of the images, at most 320.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="What all random choices follow from.")] = 0,
    out: OutOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Fit a detector to the good training images of a category.

    An interrupted training continues when the same command is given again.
    """
    with _progress_bars() as progress:
        images, _ = _read(category, data, out, progress)
        config = _configure(images, image_size, model=model, epochs=epochs, seed=seed)
        run, seconds = _fit(images, config, out, progress)
    checkpoint = run / "checkpoint.safetensors"
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), "seconds": round(seconds, 1)}))
    else:
        print(f"checkpoint: {checkpoint}")


@app.command(name="eval")
@_bad_input_in_one_line
def evaluate(
    category: CategoryOption,
    data: DataOption = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="From sw-anomaly train. Default: the newest one in --out for this category.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of the checkpoint to take, or to fit.")] = None,
    out: OutOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Measure how well defects are found in the test images; fits a detector first if there is none."""
    from sw_anomaly.detector import UNetDetector
    from sw_anomaly.evaluation import evaluate as run_evaluation
    from sw_anomaly.files import write_atomically
    from sw_anomaly.report import write_report
    from sw_anomaly.runs import find_checkpoint, new_run
    from sw_anomaly.splits import digest
    from sw_anomaly.training import CHECKPOINT

    seconds = {}
    with _progress_bars() as progress:
        images, synthetic = _read(category, data, out, progress)
        if not images.test:
            raise InputError(f"there is nothing to evaluate on: {data}/{category}/test holds no images")
        checkpoint = checkpoint or find_checkpoint(out / category, digest(images.train), model)
        run = None
        if checkpoint is None:
            screen.print(f"No checkpoint for {category!r} in {out / category}: fitting a detector first.")
            config = _configure(images, model=model) if model else _configure(images)
            run, seconds["training"] = _fit(images, config, out, progress)
            checkpoint = run / CHECKPOINT
        detector = UNetDetector.load(checkpoint)
        if detector.info.category != category:
            raise InputError(
                f"checkpoint {checkpoint} is for {detector.info.category!r}; one for {category!r} is wanted"
            )
        if model not in (None, detector.info.model):
            raise InputError(f"checkpoint {checkpoint} is of the model {detector.info.model!r}; {model!r} is wanted")
        screen.print(f"Using {checkpoint}")
        start = time.perf_counter()
        evaluation = run_evaluation(detector, images.test, progress)
        seconds["inspecting"] = time.perf_counter() - start
    run = run or new_run(out / category)
    result = {
        "category": category,
        "data": str(data or "embedded sample"),
        "synthetic": synthetic,
        "model": detector.info.model,
        "checkpoint": str(checkpoint),
        "image_size": detector.image_size,
        "image_threshold": detector.image_threshold,
        "pixel_threshold": detector.pixel_threshold,
        "seconds": {what: round(spent, 1) for what, spent in seconds.items()},
        "versions": {name: version(name) for name in ("sw-anomaly", "sw-models", "sw-ops", "torch", "timm")},
        **evaluation.as_dict(),
    }
    write_atomically(run / "results.json", lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))
    write_report(run / "report.html", evaluation, result)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _print_table(category, evaluation, synthetic)
        print(f"results: {run / 'results.json'}\nreport:  {run / 'report.html'}  (open it in a browser)")


@app.command()
@_bad_input_in_one_line
def sample(folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")]) -> None:
    """Write the embedded SYNTHETIC sample, to look at or to use as --data."""
    from sw_anomaly.sample import write_sample

    with _progress_bars() as progress:
        write_sample(folder, progress=progress)
    print(f"SYNTHETIC sample: {folder}")


def _read(name: str, data: Path | None, out: Path, progress: Progress) -> tuple[Category, bool]:
    """The category, and whether it is synthetic; without `data` from the embedded sample, drawn on first use."""
    from sw_anomaly.dataset import read_category
    from sw_anomaly.sample import CATEGORIES, is_synthetic, write_sample

    if data is None:
        if name not in CATEGORIES:
            choice = ", ".join(CATEGORIES)
            raise InputError(
                f"the embedded sample has no category {name!r}, only {choice}; give your images with --data"
            )
        data = out / "synthetic-sample"
        if not is_synthetic(data):
            write_sample(data, progress=progress)
    synthetic = is_synthetic(data)
    if synthetic:
        screen.print("[bold]SYNTHETIC[/bold] images: drawn, not photographed.")
    return read_category(data, name), synthetic


def _configure(images: Category, image_size: int | None = None, **given: Any) -> TrainingConfig:
    """The configuration of a training of these images; what is not given has its default."""
    from sw_anomaly.splits import digest
    from sw_anomaly.training import TrainingConfig, choose_image_size
    from sw_anomaly.unet import MODELS

    if image_size is not None and (image_size < 64 or image_size % 32):
        raise InputError(f"--image-size is {image_size}; a multiple of 32 from 64 is wanted")
    config = TrainingConfig(
        images.name, digest(images.train), image_size or choose_image_size(images.train[0]), **given
    )
    if config.model not in MODELS:
        raise InputError(f"--model is {config.model!r}; one of {', '.join(MODELS)} is wanted")
    return config


def _fit(images: Category, config: TrainingConfig, out: Path, progress: Progress) -> tuple[Path, float]:
    """The folder of the finished training, and the seconds it took; an interrupted one is continued."""
    from sw_anomaly.runs import find_unfinished, new_run
    from sw_anomaly.splits import unsupervised_split
    from sw_anomaly.training import fit

    run = find_unfinished(out / config.category, config)
    if run is not None:
        screen.print(f"Continuing the interrupted training in {run}")
    run = run or new_run(out / config.category)
    start = time.perf_counter()
    try:
        fit(unsupervised_split(images, config.seed), config, run, progress)
    except KeyboardInterrupt:
        screen.print(f"Interrupted; the same command continues from the last complete epoch in {run}.")
        raise
    return run, time.perf_counter() - start


@contextmanager
def _progress_bars() -> Iterator[Progress]:
    text, left = TextColumn("{task.description}"), TimeRemainingColumn(elapsed_when_finished=True)
    columns = (text, BarColumn(), MofNCompleteColumn(), left, TextColumn("{task.fields[note]}", style="dim"))
    with Bars(*columns, console=screen) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, note=note)
            bars.update(tasks[what], completed=done, note=note)
            if not screen.is_terminal and 10 * done // total > 10 * (done - 1) // total:
                screen.print(f"{what}: {done} of {total}  {note}")

        yield progress


def _print_table(category: str, evaluation: Evaluation, synthetic: bool) -> None:
    from sw_anomaly.report import METRICS, percentages

    stamp = " (SYNTHETIC images)" if synthetic else ""
    table = Table(title=f"Defects in {category}{stamp}, percent", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("defect", no_wrap=True)
    for label in METRICS.values():
        table.add_column(label, justify="right")
    rows: dict[str, Scores] = {"all": evaluation.overall, **evaluation.per_defect}
    for kind, scores in rows.items():
        table.add_row(kind, *percentages(scores).values(), style="bold" if kind == "all" else None)
    Console().print(table)
    good = sum(one.image.is_good for one in evaluation.tested)
    print(
        f"at the threshold: {evaluation.missed} of {len(evaluation.tested) - good} defective images missed, "
        f"{evaluation.false_alarms} of {good} good ones called defective"
    )
