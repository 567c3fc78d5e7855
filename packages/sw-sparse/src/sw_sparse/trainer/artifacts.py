"""What a run leaves for others: a model that timm loads, and the compact model with what it gains."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timm.models._hub import save_config_for_hf
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sw_models.analysis.flops import count_macs
from sw_models.checkpoints.fit import load_fitting
from sw_models.errors import InputError
from sw_models.files import want_new_file, write_atomically
from sw_ops.bench.timing import Run, take_turns
from sw_sparse.compaction import KEY, compact, describe, stored, widths
from sw_sparse.trainer.build import build_model
from sw_sparse.trainer.checkpoint import load_weights, save_weights
from sw_sparse.trainer.classes import number_of_classes
from sw_sparse.trainer.plots import draw_widths
from sw_sparse.trainer.recipe import Recipe, recipe_from

_PLACES = ("data_dir", "initial_checkpoint", "output")  # on this machine, which is nobody else's business
_BATCH = 8  # images at a time where the speeds are compared


def write_timm_config(output: Path, recipe: Recipe, model: nn.Module, classes: Sequence[str] | None) -> None:
    """Write ``config.json``, with which ``timm.create_model("local-dir:OUTPUT", pretrained=True)`` loads the run.

    Args:
        output: the run's folder, which holds ``model.safetensors``.
        recipe: of the run; it is kept under ``recipe``, without folders.
        model: of timm, as it was built.
        classes: names of its outputs.
    """
    settings: Any = model.pretrained_cfg
    described = {
        "num_classes": model.num_classes,
        "input_size": (settings["input_size"][0], recipe.input_size, recipe.input_size),
        "crop_pct": recipe.crop_pct,
        "interpolation": recipe.interpolation if recipe.interpolation != "random" else "bilinear",
        "mean": recipe.mean,
        "std": recipe.std,
        "license": settings.get("license") or "apache-2.0",
    }
    told = {name: value for name, value in recipe.plain().items() if name not in _PLACES}
    config = {"pretrained_cfg": described, "recipe": told, "label_names": list(classes) if classes else None}
    arguments = dict(recipe.model_args)
    save: Any = save_config_for_hf  # older versions of timm want a Path, later ones say that they want a str
    write_atomically(
        output / "config.json",
        lambda file: save(model, file, model_config=config, model_args=arguments),
    )


def write_compact(
    path: Path, recipe: Recipe, model: nn.Module, classes: Sequence[str] | None, picture: Path
) -> dict[str, Any]:
    """Write a model without its units that are off, and a picture of the widths that are left.

    Args:
        path: the file to write, which ``sw-sparse eval`` and :func:`sw_sparse.load_compact` read.
        recipe: of the run.
        model: in training form, sparse.
        classes: names of its outputs.
        picture: a PNG.

    Returns:
        Parameters, multiply-accumulates of an image and images per second on this machine's CPU in deployed form,
        before and after, and the widths of the layers that changed.

    Raises:
        InputError: for a model that cannot be compacted.
    """
    model = copy.deepcopy(model).cpu().eval()
    images = torch.zeros(2, first_channels(model), recipe.input_size, recipe.input_size)
    try:
        smaller = compact(model, (images,))
    except ValueError as error:
        raise InputError(str(error)) from error
    save_weights(path, stored(smaller), recipe.plain(), classes, {KEY: describe(smaller)})
    changed = widths(model, smaller)
    draw_widths(changed, picture)
    speeds = _images_per_second({"dense": model, "compact": smaller}, images)
    figures: dict[str, Any] = {}
    for name, network in (("dense", model), ("compact", smaller)):
        figures |= {
            f"{name}/parameters": sum(parameter.numel() for parameter in network.parameters()),
            f"{name}/MACs": count_macs(network, recipe.input_size)["total"],
            f"{name}/images per second": speeds[name],
        }
    left = {width.layer: [width.before, width.after] for width in changed if width.before != width.after}
    return {**figures, "widths": left}


def compact_checkpoint(path: Path, output: Path | None) -> dict[str, Any]:
    """Compact the model of a run's file.

    Args:
        path: a run's final weights or one of its checkpoints.
        output: the file to write; ``compact.safetensors`` beside ``path`` by default. The picture lies beside it.

    Raises:
        InputError: no unit is off in it, or the file is there already, or it is no run's.
    """
    output = output or path.with_name("compact.safetensors")
    picture = output.with_suffix(".png")
    want_new_file("--output", output)
    want_new_file("--output", picture)
    weights = load_weights(path)
    if weights.compact:
        raise InputError(f"{path}: it is compact already")
    settings = {k: v for k, v in weights.recipe.items() if k not in ("initial_checkpoint", "pretrained")}
    recipe = recipe_from(settings, str(path))
    model = build_model(recipe, number_of_classes(recipe.num_classes, weights.classes), any_classifier=False)
    load_fitting(model, weights.tensors, f"checkpoint: {path}")
    figures = write_compact(output, recipe, model, weights.classes, picture)
    if not figures["widths"]:
        output.unlink()
        picture.unlink()
        raise InputError(f"{path}: nothing is off in it; train with --granularity unit or channel")
    return {"compact file": str(output), **figures}


def first_channels(model: nn.Module) -> int:
    """Return the channels of the images that a model takes."""
    return next(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))


def _images_per_second(models: Mapping[str, nn.Module], like: Tensor) -> dict[str, float]:
    """Measure the deployed forms in turns, so that whatever else the machine does meets both alike."""
    images = torch.randn(_BATCH, *like.shape[1:])
    makes = {name: partial(deployed_run, model, images) for name, model in models.items()}
    *_, (_, seconds) = take_turns(makes, 5, alone=False)
    return {name: round(_BATCH / median(times), 1) for name, times in seconds.items()}


def deployed_run(model: nn.Module, images: Tensor) -> Run:
    """Return what runs a model's deployed form, in channels-last memory, on images ``[B, C, H, W]``."""
    images = images.to(memory_format=torch.channels_last)
    deployed: Any = reparameterize_model(model)
    deployed = deployed.to(memory_format=torch.channels_last)

    def infer() -> None:
        with torch.inference_mode():
            deployed(images)

    return infer
