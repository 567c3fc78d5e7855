"""``sw-models``: look at the models, convert and export them, measure them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NoReturn

import timm
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn

import sw_models  # noqa: F401 - registers the models
from sw_models.checkpoints.keys import is_published
from sw_models.checkpoints.load import read_state_dict, write_state_dict
from sw_models.checkpoints.published import load_published_checkpoint

MODULES = ("shiftwise", "shiftwise_v1", "shiftwise_coordatt", "slak", "unireplknet")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Checkpoint = Annotated[Path | None, typer.Option(help="Weights, published or this package's; random ones by default.")]
Picture = Annotated[Path | None, typer.Option(help="Write a picture to this new PNG file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Models = Annotated[list[str], typer.Argument(help="Names of models, see `sw-models list`.")]
Size = Annotated[int, typer.Option(min=32, help="Height and width of the image.")]
Kernels = Annotated[str, typer.Option(help="Kernel sizes of a published checkpoint's stages.")]


@app.command("list")
def list_models(as_json: AsJson = False, size: Size = 224) -> None:
    """List the models with parameters, multiply-accumulates and kernel sizes."""
    names = [name for module in MODULES for name in timm.list_models(module=module)]
    with Progress(transient=True) as progress:
        rows = [_summary(name, size) for name in progress.track(names, description="counting")]
    _print(rows, as_json, f"models of this package, images of {size}x{size}")


@app.command()
def info(model: str, as_json: AsJson = False, size: Size = 224) -> None:
    """Describe one model: its stages, its sizes, its paper."""
    with _bad_input():
        summary = _summary(model, size)
        net = _create(model, "meta")
    cfg = net.default_cfg
    summary |= {"paper": cfg.get("paper_name"), "arxiv": cfg.get("paper_ids"), "license": cfg.get("license")}
    summary["depths"] = [len(stage.blocks) for stage in net.stages]
    summary["dims"] = [feature["num_chs"] for feature in net.feature_info]
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    table = Table("property", "value")
    for key, value in summary.items():
        table.add_row(key, str(value))
    Console().print(table)


@app.command()
def convert(
    published: Path, out: Path, kernel_sizes: Kernels = "51,49,47,13", small_kernel: int = 3, as_json: AsJson = False
) -> None:
    """Convert a published checkpoint to this package's names, run the result once, and print its SHA-256."""
    with _bad_input(), Progress(transient=True) as progress:
        _want_new("OUT", out)
        if out.suffix != ".safetensors":
            raise ValueError(f"OUT: got {out.name}, want a name that ends in .safetensors")
        task = progress.add_task("reading", total=3)
        model = load_published_checkpoint(published, _kernels(kernel_sizes), small_kernel)
        progress.update(task, advance=1, description="running")
        first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        with torch.no_grad():
            outputs = model(torch.zeros(1, first.in_channels, 64, 64))
        if not all(torch.isfinite(o).all() for o in (outputs if isinstance(outputs, list) else [outputs])):
            raise ValueError(f"PUBLISHED: the network of {published} gives values that are not finite")
        progress.update(task, advance=1, description="writing")
        write_state_dict(model.state_dict(), out)
        found = {
            "file": str(out),
            "network": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        }
    _print([found], as_json, "converted")


@app.command()
def export(
    model: str,
    out: Path,
    form: Annotated[str, typer.Option("--format", help="onnx, torchscript or exported.")] = "onnx",
    checkpoint: Checkpoint = None,
    kernel_sizes: Kernels = "51,49,47,13",
    size: Size = 224,
    as_json: AsJson = False,
) -> None:
    """Export the deployed form of a model, run the file, and compare it with the model."""
    from sw_models.export import SUFFIXES, export_model

    with _bad_input(), Console(stderr=True).status(f"exporting {model}"):
        _want_new("OUT", out)
        if form not in SUFFIXES:
            raise ValueError(f"--format: got {form}, want one of {', '.join(SUFFIXES)}")
        difference = export_model(_load(model, checkpoint, kernel_sizes), out, form, size)
    found = {"file": str(out), "format": form, "bytes": out.stat().st_size, "relative difference": difference}
    _print([found], as_json, "exported")


@app.command()
def flops(models: Models, size: Size = 224, picture: Picture = None, as_json: AsJson = False) -> None:
    """Count the multiply-accumulates of one image, by kind of layer."""
    from sw_models.analysis.flops import count_macs

    with _bad_input(), Progress(transient=True) as progress:
        _want_new("--picture", picture)
        counts = {
            name: count_macs(_create(name, "meta"), size) for name in progress.track(models, description="counting")
        }
    if picture:
        from sw_models.analysis.plots import draw_macs

        draw_macs(counts, picture)
    scale = 1 if as_json else 1e9
    rows = [{"model": name, **{k: n / scale for k, n in count.items()}} for name, count in counts.items()]
    _print(rows, as_json, f"GMACs of an image of {size}x{size}")


@app.command()
def erf(
    models: Models,
    picture: Picture = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images; noise by default.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 50,
    size: Size = 1024,
    checkpoint: Annotated[list[Path] | None, typer.Option(help="Weights, one per model, in order.")] = None,
    kernel_sizes: Kernels = "51,49,47,13",
    as_json: AsJson = False,
) -> None:
    """Measure the effective receptive field: a heat map, and the square that holds 20, 30, 50 and 99 per cent of it."""
    from sw_models.analysis.receptive_field import area_shares, receptive_field

    with _bad_input(), Progress(transient=True) as progress:
        _want_new("--picture", picture)
        if checkpoint and len(checkpoint) != len(models):
            raise ValueError(f"--checkpoint: got {len(checkpoint)}, want one for each of the {len(models)} models")
        files: list[Path | None] = _image_files(images)[:count] if images else [None] * count
        task = progress.add_task("measuring", total=len(models) * len(files))
        fields = {}
        for i, name in enumerate(models):
            model = _load(name, checkpoint[i] if checkpoint else None, kernel_sizes)
            if not checkpoint:  # a fresh layer scale of 1e-6 would hide the kernels
                for key, parameter in model.named_parameters():
                    if key.endswith("gamma"):
                        nn.init.ones_(parameter)
            fields[name] = receptive_field(model, _advance(progress, task, _images(files, size)))
    if picture:
        from sw_models.analysis.plots import draw_receptive_fields

        draw_receptive_fields(fields, picture)
    rows: list[dict[str, Any]] = []
    for name, field in fields.items():
        row: dict[str, Any] = {"model": name, "weights": "checkpoint" if checkpoint else "RANDOM"}
        for threshold, (side, share) in area_shares(field).items():
            row |= {f"side {threshold:.0%}": side, f"area {threshold:.0%}": round(share, 4)}
        rows.append(row)
    _print(rows, as_json, f"effective receptive field in images of {size}x{size}")


@app.command()
def throughput(
    models: Models,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Images at a time; may be repeated.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="float32, bfloat16, float16; may be repeated.")] = None,
    layout: Annotated[list[str] | None, typer.Option(help="channels_last, contiguous; may be repeated.")] = None,
    train: Annotated[bool, typer.Option(help="Measure a forward and a backward pass too.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Measure with torch.compile too.")] = False,
    size: Size = 224,
    turns: Annotated[int, typer.Option(min=1, help="Turns of every setting; the median counts.")] = 5,
    device: str = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Measure images per second, deployed, all models in turns; on the CPU each in a process of its own."""
    from sw_models.analysis.throughput import Setting, Speed, measure
    from sw_ops.bench.candidates import LAYOUTS

    if threads:
        torch.set_num_threads(threads)
    modes = product((False, True) if train else (False,), (False, True) if compiled else (False,))
    settings = [
        Setting(m, b, p, where, *mode)
        for m, b, p, where, mode in product(
            models, batch or [8], precision or ["float32"], layout or ["channels_last"], list(modes)
        )
    ]
    with _bad_input(), Progress(transient=True) as progress:
        _want_new("--picture", picture)
        for setting in settings:
            if setting.precision not in ("float32", "bfloat16", "float16"):
                raise ValueError(f"--precision: got {setting.precision}, want float32, bfloat16 or float16")
            if setting.layout not in LAYOUTS:
                raise ValueError(f"--layout: got {setting.layout}, want {' or '.join(LAYOUTS)}")
            _create(setting.model, "meta")
        task = progress.add_task("measuring", total=len(settings) * (turns + 1))
        speeds: list[Speed] = []
        for done, speeds in measure(settings, size, turns, device):  # noqa: B007 - the last one counts
            progress.update(task, completed=done)
    if picture:
        from sw_models.analysis.plots import draw_speeds

        draw_speeds(speeds, picture)
    rows = [
        {**asdict(s.setting), "images/s": round(s.images_per_second, 2), "ms": round(s.milliseconds, 2)} for s in speeds
    ]
    title = f"images of {size}x{size} on {device}, {torch.get_num_threads()} threads"
    if not as_json:  # what all have in common would leave the columns no room
        common = {n: v for n, v in asdict(settings[0]).items() if len({getattr(s, n) for s in settings}) == 1}
        common.pop("model", None)
        title = ", ".join([title, *(f"{name} {_cell(value)}" for name, value in common.items())])
        rows = [{name: value for name, value in row.items() if name not in common} for row in rows]
    _print(rows, as_json, title)


@app.command()
def coverage(picture: Picture = None, as_json: AsJson = False, shuffles: int = 8) -> None:
    """Show which share of the convolved values reaches the output, by stage and number of shuffles."""
    from sw_models.analysis.slots import used_share

    stages = {"56x56, kernel 51": (51, 56), "28x28, kernel 49": (49, 28), "14x14, kernel 47": (47, 14)}
    stages |= {"7x7, kernel 13": (13, 7)}
    with _bad_input(), Progress(transient=True) as progress:
        _want_new("--picture", picture)
        curves = {
            name: {
                label: [used_share(kernel, 3, size, n, label == "shuffled") for n in range(1, shuffles + 1)]
                for label in ("shuffled", "ordered")
            }
            for name, (kernel, size) in progress.track(stages.items(), description="counting")
        }
    if picture:
        from sw_models.analysis.plots import draw_coverage

        draw_coverage(curves, picture)
    rows = [
        {"stage": stage, "slots": label, **{str(i + 1): round(share, 4) for i, share in enumerate(line)}}
        for stage, lines in curves.items()
        for label, line in lines.items()
    ]
    _print(rows, as_json, "share of the values used at least once, by number of shuffles")


@app.command()
def sparsity(
    checkpoint: Path, kernel_sizes: Kernels = "51,49,47,13", picture: Picture = None, as_json: AsJson = False
) -> None:
    """Show which share of the small kernels of a published checkpoint is zero, by layer, path and slot."""
    from sw_models.analysis.slots import kernel_sparsity

    with _bad_input(), Console(stderr=True).status("reading"):
        _want_new("--picture", picture)
        layers = kernel_sparsity(load_published_checkpoint(checkpoint, _kernels(kernel_sizes)))
    if picture:
        from sw_models.analysis.plots import draw_sparsity

        draw_sparsity(layers, picture)
    rows = [
        {"layer": x.name, **{f"path {i}": round(s, 4) for i, s in enumerate(x.per_path)}, "all": round(x.merged, 4)}
        for x in layers
    ]
    _print(rows, as_json, "share of zero kernels")


def _summary(name: str, size: int) -> dict[str, Any]:
    from sw_models.analysis.flops import count_macs

    model = _create(name, "meta")
    kernels = [
        sorted({m.kernel_size if isinstance(m.kernel_size, int) else m.kernel_size[0] for m in convs}, reverse=True)
        for convs in ([block.conv for block in stage.blocks] for stage in model.stages)
        if all(hasattr(m, "kernel_size") for m in convs)
    ]
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "GMACs": round(count_macs(model, size)["total"] / 1e9, 3),
        "kernels": " ".join("/".join(map(str, sizes)) for sizes in kernels),
    }


def _create(name: str, device: str | None = None) -> Any:
    if name not in timm.list_models():
        raise ValueError(f"MODEL: got {name}, want one of `sw-models list` or of timm's")
    return timm.create_model(name, device=device)


def _load(name: str, checkpoint: Path | None, kernel_sizes: str) -> nn.Module:
    if checkpoint is None:
        return _create(name)
    state = read_state_dict(checkpoint)
    if is_published(state):
        return load_published_checkpoint(state, _kernels(kernel_sizes))
    _create(name, "meta")
    classes = state["head.fc.weight"].shape[0] if "head.fc.weight" in state else 1000
    model = timm.create_model(name, num_classes=classes)
    wrong = model.state_dict().keys() ^ state.keys()
    if wrong:
        raise ValueError(f"--checkpoint: {checkpoint} is no checkpoint of {name} ({sorted(wrong)[0]} differs)")
    model.load_state_dict(state)
    return model


def _kernels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--kernel-sizes: got {text}, want numbers as in 51,49,47,13") from None


def _image_files(folder: Path) -> list[Path | None]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".webp"))
    if not files:
        raise ValueError(f"--images: no image under {folder}")
    return list(files)


def _images(files: list[Path | None], size: int) -> Iterator[torch.Tensor]:
    """Yield normalised images ``[1, 3, size, size]``; noise where there is no file."""
    from PIL import Image
    from timm.data import create_transform

    transform: Any = create_transform((3, size, size), interpolation="bicubic", crop_mode="squash", crop_pct=1.0)
    generator = torch.Generator().manual_seed(0)
    for file in files:
        if file is None:
            yield torch.randn(1, 3, size, size, generator=generator)
        else:
            with Image.open(file) as image:
                yield transform(image.convert("RGB")).unsqueeze(0)


def _advance(progress: Progress, task: Any, images: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    for image in images:
        yield image
        progress.advance(task)


def _want_new(name: str, path: Path | None) -> None:
    if path and path.exists():
        raise ValueError(f"{name}: {path} exists; want the name of a new file")
    if path and not path.absolute().parent.is_dir():
        raise ValueError(f"{name}: no folder {path.absolute().parent}")


def _print(rows: list[dict[str, Any]], as_json: bool, title: str) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        table.add_column(name, no_wrap=i == 0, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    """Turn an error about the input into one line and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        _fail(" ".join(str(error).split()))


def _fail(message: str) -> NoReturn:
    typer.echo(f"sw-models: {message}", err=True)
    raise typer.Exit(2)
