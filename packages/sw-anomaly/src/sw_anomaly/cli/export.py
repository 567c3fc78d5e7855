"""``sw-anomaly export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sw_anomaly.cli.common import JsonOption, app, screen
from sw_models.console import print_json
from sw_models.files import want_new_file

CHECKED_ON = 8  # training images, where they are where they were


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="From sw-anomaly train.")],
    file: Annotated[Path, typer.Argument(help="The ONNX file to write, such as bottle.onnx.")],
    as_json: JsonOption = False,
) -> None:
    """Write a detector to one ONNX file, the whole decision inside, and check the file with onnxruntime.

    It takes an image, uint8 [height, width, 3] of any size, and gives a score, a map, and the decisions on both.
    """
    want_new_file("FILE", file)
    from sw_anomaly.data.images import load_image
    from sw_anomaly.data.manifest import training_images
    from sw_anomaly.detector import load_detector
    from sw_anomaly.experiment.fit import MANIFEST
    from sw_anomaly.export.onnx import export_detector

    detector = load_detector(checkpoint)
    images = [load_image(path) for path in training_images(checkpoint.with_name(MANIFEST), CHECKED_ON)]
    with screen.status("exporting and checking"):
        check = export_detector(detector, file, images)
    if as_json:
        print_json({"file": str(file), **asdict(check)})
    else:
        on = f"{check.given} training images and {check.drawn} drawn ones" if images else f"{check.drawn} drawn images"
        print(f"{file}: agrees with the detector to {check.score:.1e} in scores and {check.map:.1e} in maps, on {on}")
