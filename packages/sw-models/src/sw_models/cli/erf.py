"""``sw-models erf``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress
from torch import nn

from sw_models.cli.common import AsJson, Kernels, Models, Picture, Size, load
from sw_models.console import print_rows
from sw_models.errors import InputError
from sw_models.files import want_new_file
from sw_models.sources import IMAGE_SUFFIXES


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

    with Progress(transient=True) as progress:
        if picture:
            want_new_file("--picture", picture)
        if checkpoint and len(checkpoint) != len(models):
            raise InputError(f"--checkpoint: got {len(checkpoint)}, want one for each of the {len(models)} models")
        files: list[Path | None] = _image_files(images)[:count] if images else [None] * count
        task = progress.add_task("measuring", total=len(models) * len(files))
        fields = {}
        for i, name in enumerate(models):
            model = load(name, checkpoint[i] if checkpoint else None, kernel_sizes)
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
    print_rows(rows, as_json, f"effective receptive field in images of {size}x{size}")


def _image_files(folder: Path) -> list[Path | None]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"--images: no image under {folder}")
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
