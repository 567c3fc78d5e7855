"""``sw-models export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sw_models.checkpoints.load import class_names
from sw_models.cli.common import AsJson, Checkpoint, Kernels, Size, load
from sw_models.console import print_rows
from sw_models.errors import InputError
from sw_models.files import want_new_file


def export(
    model: str,
    out: Path,
    form: Annotated[str, typer.Option("--format", help="onnx, torchscript or exported.")] = "onnx",
    checkpoint: Checkpoint = None,
    kernel_sizes: Kernels = "51,49,47,13",
    size: Size = 224,
    as_json: AsJson = False,
) -> None:
    """Export the deployed form of a model, run the file, and compare it with the model; class names go with it."""
    from sw_models.export import FORMATS, export_model

    with Console(stderr=True).status(f"exporting {model}"):
        want_new_file("OUT", out)
        if form not in FORMATS:
            raise InputError(f"--format: got {form}, want one of {', '.join(FORMATS)}")
        classes = class_names(checkpoint) if checkpoint else None
        difference = export_model(load(model, checkpoint, kernel_sizes), out, form, size, classes)
    found = {"file": str(out), "format": form, "bytes": out.stat().st_size, "relative difference": difference}
    print_rows([found], as_json, "exported")
