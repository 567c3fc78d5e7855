"""Evaluation: loss and accuracy of a model over a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from timm.utils import accuracy
from torch import nn
from torch.utils.data import DataLoader

from sw_models.checkpoints.fit import load_fitting
from sw_models.errors import InputError
from sw_sparse.compaction import fit
from sw_sparse.trainer.build import build_model
from sw_sparse.trainer.checkpoint import Weights, load_weights
from sw_sparse.trainer.classes import bind_labels, class_names, number_of_classes
from sw_sparse.trainer.data import evaluation_loader, open_dataset, readable
from sw_sparse.trainer.recipe import Recipe, read_recipe, recipe_from


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: DataLoader, accelerator: Accelerator, advance: Callable[[int], None] = lambda images: None
) -> dict[str, float]:
    """Return mean loss and top-1 and top-5 accuracy in percent, over all ranks' images.

    Args:
        model: in any mode; it is left in evaluation mode.
        loader: this rank's share.
        accelerator: where and in what precision to run.
        advance: told the number of images after every batch.
    """
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64)
    for images, labels in readable(loader):
        images, labels = images.to(accelerator.device), labels.to(accelerator.device)
        with accelerator.autocast():
            logits = model(images)
        logits = logits.float()
        if int(labels.max()) >= logits.shape[1]:
            raise InputError(f"data_dir: it has the label {int(labels.max())}, the model {logits.shape[1]} classes")
        top1, top5 = accuracy(logits, labels, topk=(1, 5))
        loss = F.cross_entropy(logits, labels)
        sums += len(labels) * torch.tensor([1, float(loss), float(top1), float(top5)], dtype=torch.float64)
        advance(len(labels))
    # NCCL reduces on the GPU, and Apple's has no float64.
    sums = accelerator.reduce(sums.to(accelerator.device, torch.float32 if accelerator.device.type == "mps" else None))
    images, loss, top1, top5 = sums.tolist()
    if not images:
        raise InputError("data_dir: no images to evaluate on")
    return {
        "images": int(images),
        "loss": loss / images,
        "top1": round(top1 / images, 4),
        "top5": round(top5 / images, 4),
    }


def evaluate_checkpoint(path: Path, flags: dict[str, Any], advance: Callable[[int], None]) -> dict[str, Any]:
    """Evaluate the weights in a file on the data they were tested on, or on what the flags say.

    Labels are matched with the classes that were trained by their names; the data may hold some of them only.

    Args:
        path: a checkpoint or the final weights of a run; or any other weights, for which the flags give the model.
        flags: options of the recipe.
        advance: see :func:`evaluate`.
    """
    recipe, weights = _recipe_and_weights(path, flags)
    classes = weights.classes if weights is not None else None
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=recipe.amp)
    split = flags.get("val_split") or recipe.test_split or recipe.val_split
    dataset = open_dataset(recipe, split, training=False)
    bind_labels(dataset, classes, repr(split))
    outputs = number_of_classes(recipe.num_classes, classes or class_names(dataset))
    model = build_model(recipe, outputs, any_classifier=False)
    if weights is not None:
        load_into(model, weights, path)
    model.to(accelerator.device)
    loader = evaluation_loader(recipe, dataset, accelerator.process_index, accelerator.num_processes)
    return {"checkpoint": str(path), "split": split, **evaluate(model, loader, accelerator, advance)}


def load_into(model: nn.Module, weights: Weights, path: Path) -> None:
    """Load a run's weights into its model, which becomes compact where they are."""
    if weights.compact is None:
        load_fitting(model, weights.tensors, f"checkpoint: {path}")
        return
    try:
        fit(model, weights.tensors, weights.compact)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _recipe_and_weights(path: Path, flags: dict[str, Any]) -> tuple[Recipe, Weights | None]:
    if path.suffix == ".safetensors" and "model" not in flags:
        weights = load_weights(path)
        settings = weights.recipe
        known = {name: value for name, value in settings.items() if name not in ("initial_checkpoint", "pretrained")}
        return recipe_from({**known, **flags}, str(path)), weights
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return read_recipe(None, {**flags, "initial_checkpoint": str(path)}), None
