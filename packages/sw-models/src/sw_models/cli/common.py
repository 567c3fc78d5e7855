"""What the commands share: options, and models by name or checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import timm
import typer
from torch import nn

import sw_models  # noqa: F401 - registers the models
from sw_models.checkpoints.fit import load_fitting
from sw_models.checkpoints.keys import is_published, published_family
from sw_models.checkpoints.load import read_state_dict
from sw_models.errors import InputError
from sw_models.models._base import checkpoint_filter_fn
from sw_models.published import FAMILIES, load_published_checkpoint

Checkpoint = Annotated[Path | None, typer.Option(help="Weights, published or this package's; random ones by default.")]
Picture = Annotated[Path | None, typer.Option(help="Write a picture to this new PNG file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Models = Annotated[list[str], typer.Argument(help="Names of models, see `sw-models list`.")]
Size = Annotated[int, typer.Option(min=32, help="Height and width of the image.")]
Kernels = Annotated[str, typer.Option(help="Kernel sizes of a published checkpoint's stages.")]


def create(name: str, device: str | None = None) -> Any:
    """Return a fresh model of this package or of timm's."""
    if name not in timm.list_models():
        raise InputError(f"MODEL: got {name}, want one of `sw-models list` or of timm's")
    return timm.create_model(name, device=device)


def load(name: str, checkpoint: Path | None, kernel_sizes: str) -> nn.Module:
    """Return a model with the weights of a checkpoint, published or this package's; random ones without."""
    if checkpoint is None:
        return create(name)
    state = read_state_dict(checkpoint)
    if is_published(state) and published_family(state) in FAMILIES:
        return load_published_checkpoint(state, kernels_of(kernel_sizes))
    create(name, "meta")
    classifier = state.get("head.weight", state.get("head.fc.weight"))
    model = timm.create_model(name, num_classes=1000 if classifier is None else len(classifier))
    load_fitting(
        model, checkpoint_filter_fn(state, model), f"--checkpoint: {checkpoint} is of another model than {name}: it"
    )
    return model


def kernels_of(text: str) -> tuple[int, ...]:
    """Read sizes such as "51,49,47,13"."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--kernel-sizes: got {text}, want numbers as in 51,49,47,13") from None
