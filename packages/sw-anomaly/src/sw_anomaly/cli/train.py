"""`sw-anomaly train`, and the options of fitting, which `sw-anomaly eval` shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sw_anomaly.cli.app import (
    CategoryOption,
    DataOption,
    JsonOption,
    OutOption,
    app,
    bad_input_in_one_line,
    find_data,
    progress_bars,
    screen,
)
from sw_anomaly.errors import InputError

MethodOption = Annotated[
    str | None,
    typer.Option("--method", help="auto (the default: unet, with bank for aligned parts), unet, bank or patchcore."),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Of the method unet: swnano (the default), swtiny, swtiny_pp or vanilla.")
]
BackboneOption = Annotated[
    str | None, typer.Option("--backbone", help="Of the method patchcore: any model of timm. Default: shiftwise_nano.")
]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="File with the weights of the backbone.")]
AlignOption = Annotated[
    str | None,
    typer.Option("--align", help="auto (the default): parts are brought into one pose if that helps; off."),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option("--protocol", help="unsupervised (the default), supervised, or the leaky published one."),
]
DefectsOption = Annotated[
    int | None, typer.Option("--defects", min=1, help="Defective images that supervised training sees. Default: 10.")
]
KnownTypeOption = Annotated[
    str | None, typer.Option("--known-type", help="Draw those from this type alone, and test on the other types.")
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Epochs, of 128 batches of 8 images each. Default: 8.")
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option("--image-size", help="Side in pixels, a multiple of 32. Default: that of the images, at most 320."),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="What all that is random follows from. Default: 0.")
]


@app.command()
@bad_input_in_one_line
def train(
    category: CategoryOption,
    data: DataOption = None,
    method: MethodOption = None,
    model: ModelOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    align: AlignOption = None,
    protocol: ProtocolOption = None,
    defects: DefectsOption = None,
    known_type: KnownTypeOption = None,
    epochs: EpochsOption = None,
    image_size: ImageSizeOption = None,
    seed: SeedOption = None,
    out: OutOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Fit a detector to the good training images of a category.

    An interrupted training continues when the same command is given again.
    """
    options = fit_options(
        method, model, backbone, weights, align, protocol, defects, known_type, epochs, image_size, seed
    )
    from sw_anomaly.benchmark import fit_run
    from sw_anomaly.dataset import read_category
    from sw_anomaly.training import CHECKPOINT

    with progress_bars() as progress:
        images = read_category(find_data(category, data, out, progress), category)
        run, seconds = fit_run(images, options, out, progress, screen.print)
    checkpoint = run / CHECKPOINT
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), "seconds": round(seconds, 1)}))
    else:
        print(f"checkpoint: {checkpoint}")


def fit_options(
    method: str | None,
    model: str | None,
    backbone: str | None,
    weights: Path | None,
    align: str | None,
    protocol: str | None,
    defects: int | None,
    known_type: str | None,
    epochs: int | None,
    image_size: int | None,
    seed: int | None,
) -> dict[str, Any]:
    """The fields of `TrainingConfig` that the options of a command ask for; raises `InputError` on what cannot be."""
    from sw_anomaly.splits import DEFECTS
    from sw_anomaly.unet import MODELS

    _check_choice("--method", method, ("auto", "unet", "bank", "unet+bank", "patchcore"))
    _check_choice("--model", model, MODELS)
    _check_choice("--align", align, ("auto", "off"))
    _check_choice("--protocol", protocol, ("unsupervised", "supervised", "published"))
    trained = {"--model", "--protocol", "--epochs"}
    uses = {
        "auto": trained,
        "unet": trained,
        "unet+bank": trained,
        "patchcore": {"--backbone", "--weights"},
        "bank": set[str](),
    }
    given = {
        "--model": model,
        "--backbone": backbone,
        "--weights": weights,
        "--protocol": None if protocol == "unsupervised" else protocol,
        "--epochs": epochs,
    }
    for name, value in given.items():
        if value is not None and name not in uses[method or "auto"]:
            fitting = next(one for one, names in uses.items() if name in names)
            raise InputError(f"{name} {value} is for --method {fitting}; the method is {method or 'auto'}")
    if protocol != "supervised" and (defects or known_type):
        raise InputError("--defects and --known-type want --protocol supervised")
    if image_size is not None and (image_size < 64 or image_size % 32):
        raise InputError(f"--image-size is {image_size}; a multiple of 32 from 64 is wanted")
    network = {"patchcore": backbone or "shiftwise_nano", "bank": "none"}.get(method or "auto", model)
    asked = {
        "method": method,
        "model": network,
        "weights": None if weights is None else str(weights),
        "align": align,
        "protocol": protocol,
        "defects": defects or DEFECTS if protocol == "supervised" else None,
        "known_type": known_type,
        "epochs": epochs,
        "image_size": image_size,
        "seed": seed,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _check_choice(option: str, value: str | None, choices: Any) -> None:
    if value is not None and value not in choices:
        raise InputError(f"{option} is {value!r}; one of {', '.join(choices)} is wanted")
