"""``sw-anomaly export``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sw_anomaly.cli.common import JsonOption, app, bad_input_in_one_line, screen
from sw_models.errors import InputError


@app.command()
@bad_input_in_one_line
def export(
    checkpoint: Annotated[Path, typer.Argument(help="From sw-anomaly train.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write, such as bottle.onnx.")],
    as_json: JsonOption = False,
) -> None:
    """Write a detector to one ONNX file, the whole decision inside, and check the file with onnxruntime.

    It takes an image, uint8 [height, width, 3] of any size, and gives a score, a map, and the decisions on both.
    """
    if file.exists():
        raise InputError(f"{file} already exists; name a file that does not, or remove it first")
    if not file.parent.is_dir():
        raise InputError(f"{file.parent} is not a folder")
    from sw_anomaly.detector import load_detector
    from sw_anomaly.export.onnx import export_detector

    detector = load_detector(checkpoint)
    with screen.status("exporting and checking"):
        check = export_detector(detector, file)
    if as_json:
        print(json.dumps({"file": str(file), **asdict(check)}))
    else:
        print(f"{file}: agrees with the detector to {check.score:.1e} in scores and {check.map:.1e} in maps")
