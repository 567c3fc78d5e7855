"""``sw-ops``: look after the operator from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Look after the shift-wise convolution, and measure it."""


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Print versions, how the kernels were built, what serves which device, and test it; exit 1 if something fails."""
    from sw_ops.doctor import report

    found = report()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_doctor(found)
    raise typer.Exit(0 if found["healthy"] else 1)


@app.command()
def bench(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    batch: Annotated[int, typer.Option(min=1, help="Images per call.")] = 8,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; PyTorch's choice by default.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of every contender; the median counts.")] = 9,
    published: Annotated[bool, typer.Option(help="Measure the published algorithm too (slow).")] = True,
    train: Annotated[bool, typer.Option(help="Measure forward and backward together, and nothing else.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this new file.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare two such files, OLD NEW, instead of measuring.")
    ] = None,
) -> None:
    """Measure the operator beside a dense 13x13 depthwise convolution, at the four stages of shiftwise_tiny."""
    if compare:
        _print_comparison(*(_read_bench(path) for path in compare))
        return
    if json_file and json_file.exists():
        _fail(f"--json: {json_file} exists; want the name of a new file")

    import torch

    from sw_ops.bench import candidates as benchmark

    if dtype not in ("float32", "bfloat16", "float16"):
        _fail(f"--dtype: got {dtype}, want float32, bfloat16 or float16")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        _fail(f"--device: got {device}, want cpu{' or cuda' if torch.cuda.is_available() else ' (no GPU is visible)'}")
    if threads:
        torch.set_num_threads(threads)
    on, of = torch.device(device), getattr(torch, dtype)
    rows: list[benchmark.Row] = []
    with Progress(transient=True, auto_refresh=False) as progress:  # a thread that draws would disturb the figures
        shapes = benchmark.TINY_STAGES
        bar = progress.add_task("measuring", total=len(shapes))
        progress.refresh()
        try:
            for measured in benchmark.measure(
                shapes, batch=batch, device=on, dtype=of, repeats=repeats, published=published, train=train
            ):
                rows += measured
                progress.update(bar, advance=1, refresh=True)
        except ChildProcessError as error:
            _fail(str(error))
    found = benchmark.as_json(rows, on, of, batch)
    _print_bench(found)
    if json_file:
        json_file.write_text(json.dumps(found, indent=2))


@app.command()
def accuracy(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Measure on the CPU how exact the fast algorithm is, beside exact=True and PyTorch's convolution."""
    from sw_ops.bench.accuracy import METHODS, measure

    found = measure()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table(title="float32, a 3x51 kernel on 56x56", title_justify="left")
    table.add_column("what")
    for method in METHODS:
        table.add_column(method, justify="right")
    for what, figures in found.items():
        table.add_row(what, *(f"{figures[method]:.3g}" for method in METHODS))
    Console().print(table)


def _fail(message: str) -> NoReturn:
    typer.echo(f"sw-ops: {message}", err=True)
    raise typer.Exit(2)


def _read_bench(path: Path) -> dict[str, float]:
    """Return milliseconds by "shape, contender, layout"."""
    try:
        rows = json.loads(path.read_text())["rows"]
        return {f"{row['shape']}, {row['contender']}, {row['layout']}": float(row["milliseconds"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        _fail(f"--compare: {path} is not a file that 'sw-ops bench --json' wrote")


def _print_comparison(old: dict[str, float], new: dict[str, float]) -> None:
    table = Table(title="milliseconds", title_justify="left")
    table.add_column("what")
    for column in ("old", "new", "new / old"):
        table.add_column(column, justify="right")
    for what in (what for what in old if what in new):
        table.add_row(what, f"{old[what]:.3f}", f"{new[what]:.3f}", f"{new[what] / old[what]:.2f}")
    Console().print(table)


def _print_bench(found: dict[str, Any]) -> None:
    console = Console()
    heading = f"{found['device']}, {found['threads']} threads, {found['dtype']}, batch {found['batch']}: milliseconds"
    table = Table(title=heading, title_justify="left")
    table.add_column("contender")
    for column in ("contiguous", "channels-last", "GMAC/s", "of peak", "x dense 13x13"):
        table.add_column(column, justify="right")
    cells: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in found["rows"]:
        cells.setdefault((row["shape"], row["contender"]), {})[row["layout"]] = row
    last = None
    for (shape, contender), layouts in cells.items():
        if shape != last:
            table.add_section()
            table.add_row(f"[bold]{shape}[/]")
            last = shape
        times = [f"{layouts[n]['milliseconds']:.3f}" if n in layouts else "" for n in ("contiguous", "channels_last")]
        best = min(layouts.values(), key=lambda row: row["milliseconds"])
        gmacs = "" if best["gmacs"] is None else f"{best['gmacs']:.0f}"
        peak = "" if best["of_peak"] is None else f"{best['of_peak']:.0%}"
        table.add_row(contender, *times, gmacs, peak, f"{best['of_dense']:.2f}")
    console.print(table)

    total = Table(title="all shapes, each in its faster layout", title_justify="left")
    total.add_column("contender")
    total.add_column("x dense 13x13", justify="right")
    for contender, ratio in sorted(found["of_dense"].items(), key=lambda item: item[1]):
        total.add_row(contender, f"{ratio:.2f}")
    console.print(total)


def _print_doctor(found: dict[str, Any]) -> None:
    console = Console()
    facts = Table(title="sw-ops doctor", show_header=False, title_justify="left")
    for name, value in (found["versions"] | found["native"]).items():
        facts.add_row(name.replace("_", " "), "-" if value is None else str(value))
    console.print(facts)

    if found["gpus"]:
        gpus = Table(title="GPUs", title_justify="left")
        for column in ("device", "name", "driver", "capability", "compiled kernels"):
            gpus.add_column(column)
        for gpu in found["gpus"]:
            facts_of_gpu = [gpu[key] or "-" for key in ("device", "name", "driver", "capability")]
            gpus.add_row(*facts_of_gpu, escape(gpu["problem"] or "run"))
        console.print(gpus)

    serving = Table(title="self-test: largest error against float64", title_justify="left")
    for column in ("device", "dtype", "served by", "why", "relative error", "result"):
        serving.add_column(column)
    for entry in found["serving"]:
        result = (
            "[green]ok[/]" if entry["passed"] else "[red]WRONG[/]" if entry["error"] is not None else "[red]FAILED[/]"
        )
        error = "-" if entry["error"] is None else f"{entry['error']:.1e}"
        serving.add_row(entry["device"], entry["dtype"], entry["backend"] or "-", escape(entry["why"]), error, result)
    console.print(serving)
    if not found["native"]["built"]:
        console.print(f"[red]The compiled module is missing:[/] {found['native']['reason']}")
