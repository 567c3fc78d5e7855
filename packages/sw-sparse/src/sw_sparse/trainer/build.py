"""The parts of a run, from its recipe: the model, its optimizer and its schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn

from sw_models import ShiftwiseNet
from sw_models.checkpoints.fit import load_fitting
from sw_models.checkpoints.keys import convert_published, is_published
from sw_models.checkpoints.load import read_state_dict
from sw_models.errors import InputError
from sw_sparse.schedules import cosine
from sw_sparse.trainer import layer_decay
from sw_sparse.trainer.data import transform_of
from sw_sparse.trainer.recipe import Recipe

_ERRORS_OF_ARGUMENTS = (TypeError, ValueError, RuntimeError, AssertionError)


def build_model(recipe: Recipe, num_classes: int, *, any_classifier: bool = True) -> nn.Module:
    """Build the recipe's model with timm, and load initial weights where there are any.

    Args:
        recipe: what to build.
        num_classes: outputs of the classifier.
        any_classifier: whether initial weights may have a classifier of another size, which is then left out.

    Raises:
        InputError: for an unknown model, arguments it does not take, or weights that do not fit.
    """
    if not timm.is_model(recipe.model):
        raise InputError(f"model: timm knows no {recipe.model!r}")
    arguments: dict[str, Any] = {"num_classes": num_classes, **recipe.model_args}
    if recipe.drop_path:
        arguments["drop_path_rate"] = recipe.drop_path
    if recipe.width_factor != 1:
        arguments["dims"] = _scaled_dims(recipe)
    try:
        model = timm.create_model(recipe.model, pretrained=recipe.pretrained, **arguments)
    except _ERRORS_OF_ARGUMENTS as error:
        raise InputError(f"model: {recipe.model} does not take these arguments: {one_line(error)}") from error
    if recipe.initial_checkpoint:
        load_initial(model, Path(recipe.initial_checkpoint), any_classifier=any_classifier)
    return model


def refuse_unknown_parts(recipe: Recipe) -> None:
    """Refuse names that timm does not know and settings that its parts do not take, before anything is loaded.

    Raises:
        InputError: naming the option.
    """
    transform_of(recipe, training=True)
    if not timm.is_model(recipe.model):
        raise InputError(f"model: timm knows no {recipe.model!r}")
    build_scheduler(recipe, build_optimizer(recipe, nn.Linear(2, 2)), steps_per_epoch=1)


def load_initial(model: nn.Module, path: Path, *, any_classifier: bool = True) -> None:
    """Load weights from any kind of file; a classifier of another size may be left as it is, anything else must fit."""
    state = read_state_dict(path)
    if is_published(state):
        state = convert_published(state, model)
    own = model.state_dict()
    head = [n for n in state if n in own and n.startswith("head") and state[n].shape != own[n].shape]
    if head and not any_classifier:
        outputs, classes = len(state[head[0]]), len(own[head[0]])
        raise InputError(f"checkpoint: the classifier of {path} has {outputs} outputs, the data {classes} classes")
    load_fitting(model, {**state, **{name: own[name] for name in head}}, f"checkpoint: {path}")


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Build the recipe's optimizer; vectors and biases are not decayed."""
    settings = {"opt": recipe.opt, "lr": recipe.lr, "momentum": recipe.momentum, **recipe.opt_args}
    try:
        if isinstance(model, ShiftwiseNet):
            rate = recipe.layer_decay or 1.0
            groups = layer_decay.parameter_groups(model.named_parameters(), recipe.weight_decay, rate)
            return create_optimizer_v2(groups, weight_decay=recipe.weight_decay, **settings)
        return create_optimizer_v2(model, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay, **settings)
    except _ERRORS_OF_ARGUMENTS as error:
        raise InputError(f"opt: {recipe.opt!r}: {one_line(error)}") from error


def build_scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Scheduler:
    """Build timm's schedule, in optimizer steps: warm-up first, then the named decay over the other epochs."""
    try:
        scheduler, _ = create_scheduler_v2(
            optimizer,
            recipe.sched,
            num_epochs=recipe.epochs - recipe.warmup_epochs,
            warmup_epochs=recipe.warmup_epochs,
            warmup_prefix=True,
            warmup_lr=recipe.warmup_lr,
            min_lr=recipe.min_lr,
            step_on_epochs=False,
            updates_per_epoch=steps_per_epoch,
        )
    except _ERRORS_OF_ARGUMENTS as error:
        raise InputError(f"sched: {recipe.sched!r}: {one_line(error)}") from error
    if scheduler is None:
        raise InputError(f"sched: timm knows no {recipe.sched!r}")
    return scheduler


def set_weight_decay(recipe: Recipe, optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Move the weight decay along its cosine, where the recipe has one."""
    if recipe.weight_decay_end is not None:
        for group in optimizer.param_groups:
            if group["weight_decay"] > 0:
                group["weight_decay"] = cosine(recipe.weight_decay, recipe.weight_decay_end, progress)


def _scaled_dims(recipe: Recipe) -> tuple[int, ...]:
    # On the meta device nothing is computed; the widths are all that is wanted.
    info: Any = timm.create_model(recipe.model, device="meta").feature_info
    return tuple(int(stage["num_chs"] * recipe.width_factor) for stage in info)


def one_line(error: BaseException) -> str:
    """Return the beginning of an error's message, without its line breaks."""
    return " ".join(str(error).split())[:300]
