"""``sw-models throughput``."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from itertools import product
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from sw_models.cli.common import AsJson, Models, Picture, Size, create
from sw_models.console import cell, print_rows
from sw_models.errors import InputError
from sw_models.files import want_new_file


def throughput(
    models: Models,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Images at a time; may be repeated.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="float32, bfloat16, float16; may be repeated.")] = None,
    layout: Annotated[list[str] | None, typer.Option(help="channels_last, contiguous; may be repeated.")] = None,
    train: Annotated[bool, typer.Option(help="Measure a forward and a backward pass too.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Measure with torch.compile too.")] = False,
    onnx: Annotated[bool, typer.Option(help="Measure the exported file in onnxruntime too, in float32.")] = False,
    size: Size = 224,
    turns: Annotated[int, typer.Option(min=1, help="Turns of every setting; the median counts.")] = 5,
    device: str = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    picture: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Measure images per second, deployed, all models in turns; on the CPU each in a process of its own."""
    from sw_models.analysis.throughput import Runtime, Setting, Speed, measure
    from sw_ops.bench.candidates import LAYOUTS

    if onnx and device != "cpu":
        raise InputError(f"--onnx: got --device {device}, want cpu")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if onnx and missing:
        raise InputError(f"--onnx needs {', '.join(missing)}; install sw-models[onnx]")
    if threads:
        torch.set_num_threads(threads)
    wanted: dict[Runtime, bool] = {"pytorch": True, "torch.compile": compiled, "onnxruntime": onnx}
    runtimes = [runtime for runtime, is_wanted in wanted.items() if is_wanted]
    layouts = layout or ["channels_last"]
    settings = [
        Setting(*chosen)
        for chosen in product(
            models, batch or [8], precision or ["float32"], layouts, (False, True) if train else (False,), runtimes
        )
    ]
    as_a_file = (False, "float32", layouts[0])  # which knows neither gradients nor layouts
    settings = [
        one for one in settings if one.runtime != "onnxruntime" or (one.train, one.precision, one.layout) == as_a_file
    ]
    with Progress(transient=True) as progress:
        if picture:
            want_new_file("--picture", picture)
        for setting in settings:
            if setting.precision not in ("float32", "bfloat16", "float16"):
                raise InputError(f"--precision: got {setting.precision}, want float32, bfloat16 or float16")
            if setting.layout not in LAYOUTS:
                raise InputError(f"--layout: got {setting.layout}, want {' or '.join(LAYOUTS)}")
            create(setting.model, "meta")
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
        title = ", ".join([title, *(f"{name} {cell(value)}" for name, value in common.items())])
        rows = [{name: value for name, value in row.items() if name not in common} for row in rows]
    print_rows(rows, as_json, title)
