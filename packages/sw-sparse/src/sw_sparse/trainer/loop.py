"""The training loop. Read it once, from top to bottom, and you know everything that a run does."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration
from timm.data import Mixup
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_sparse.sparsifier import Sparsifier
from sw_sparse.trainer import checkpoint
from sw_sparse.trainer.build import build_model, build_optimizer, build_scheduler, set_weight_decay
from sw_sparse.trainer.callbacks import Watcher
from sw_sparse.trainer.data import (
    evaluation_loader,
    number_of_classes,
    open_dataset,
    start_epoch,
    training_loader,
)
from sw_sparse.trainer.evaluate import evaluate
from sw_sparse.trainer.plots import draw_curves, draw_sparsity
from sw_sparse.trainer.recipe import MAY_CHANGE_ON_RESUME, Recipe

STEPS_BETWEEN_LOSS_CHECKS = 20


def train(recipe: Recipe, watcher: Watcher | None = None) -> dict[str, Any]:
    """Train as the recipe says, continuing what its output folder holds, and return the summary.

    Under torchrun every process calls this. The folder then holds ``checkpoints/``, ``best.safetensors``,
    ``model.safetensors`` (the final weights), ``log.jsonl``, ``summary.json`` and the pictures.

    Raises:
        InputError: for input that the user can mend.
    """
    output = Path(recipe.output)
    accelerator = _accelerator(recipe)
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    if watcher is None or not accelerator.is_main_process:
        watcher = Watcher()

    # Data.
    train_set = open_dataset(recipe, recipe.train_split, training=True)
    val_set = open_dataset(recipe, recipe.val_split, training=False)
    classes = number_of_classes(recipe, train_set, val_set)
    loader = training_loader(recipe, train_set, rank, world)
    val_loader = evaluation_loader(recipe, val_set, rank, world)
    steps_per_epoch = len(loader) // recipe.accumulate
    if not steps_per_epoch:
        raise InputError(
            f"batch_size: one step takes {recipe.batch_size} x {recipe.accumulate} x {world} images, "
            f"more than the {len(train_set)} of {recipe.train_split!r}"  # type: ignore[arg-type]
        )
    mixup = Mixup(
        recipe.mixup,
        recipe.cutmix,
        prob=recipe.mixup_prob,
        switch_prob=recipe.mixup_switch_prob,
        mode=recipe.mixup_mode,
        label_smoothing=recipe.smoothing,
        num_classes=classes,
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.0 if recipe.mixes else recipe.smoothing)

    # Model, optimizer, sparsifier. The same seed on every rank, so that all start from the same weights.
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, classes)
    if recipe.sync_bn and world > 1 and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    memory = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=memory)
    ema = ModelEmaV3(model, decay=recipe.ema_decay) if recipe.ema_decay else None
    optimizer = build_optimizer(recipe, model)
    scheduler = build_scheduler(recipe, optimizer, steps_per_epoch)
    state = checkpoint.newest(output / "checkpoints", watcher.note)
    if state:
        _same_recipe(recipe, state["recipe"], output)
    sparsity = recipe.sparsity_config(total_steps=recipe.epochs * steps_per_epoch)
    sparsifier = None
    if sparsity:
        start_epoch(loader, recipe.seed, 0, rank)
        first_batch = next(iter(loader)) if sparsity.distribution == "snip" else None

        def first_loss(network: nn.Module) -> Tensor:
            assert first_batch is not None
            return F.cross_entropy(network.train()(first_batch[0].to(device)), first_batch[1].to(device))

        try:
            sparsifier = Sparsifier(
                model, optimizer, sparsity, loss=first_loss, ema=ema.module if ema is not None else None
            )
        except ValueError as error:
            raise InputError(str(error)) from error

    # Continue where the newest sound checkpoint stopped.
    first_epoch, history, best = 0, [], -math.inf
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if ema is not None:
            ema.module.load_state_dict(state["ema"])
        if sparsifier:
            sparsifier.load_state_dict(state["sparsifier"])
        if accelerator.scaler:
            accelerator.scaler.load_state_dict(state["scaler"])
        first_epoch, history, best = state["epoch"] + 1, state["history"], state["best"]
        watcher.note(f"continuing {output} after epoch {first_epoch}")
    network, prepared_optimizer = accelerator.prepare(model, optimizer)
    compiled = torch.compile(network) if recipe.compile else network
    accelerator.init_trackers(
        "sw-sparse",
        config={k: str(v) for k, v in recipe.plain().items()},
        init_kwargs={"wandb": {"dir": recipe.output}},
    )

    for epoch in range(first_epoch, recipe.epochs):
        start_epoch(loader, recipe.seed, epoch, rank)
        network.train()
        started, total, seen = time.monotonic(), torch.zeros((), device=device), 0
        watcher.start_epoch(epoch, recipe.epochs, steps_per_epoch * recipe.accumulate * recipe.batch_size * world)
        for number, (images, labels) in enumerate(itertools.islice(loader, steps_per_epoch * recipe.accumulate)):
            images, labels = images.to(device, memory_format=memory), labels.to(device)
            if recipe.mixes:
                images, labels = mixup(images, labels)
            step = epoch * steps_per_epoch + number // recipe.accumulate
            scheduler.step_update(step)
            set_weight_decay(recipe, optimizer, step / (recipe.epochs * steps_per_epoch))

            with accelerator.accumulate(network):
                loss = loss_of(compiled(images), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    if recipe.clip_grad:
                        accelerator.unscale_gradients()
                        if sparsifier:
                            sparsifier.mask_gradients()
                        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
                    prepared_optimizer.step()
                    if sparsifier:
                        sparsifier.step()
                    if ema is not None:
                        ema.update(model)
                    prepared_optimizer.zero_grad()

            total += loss.detach()
            seen += 1
            if seen % STEPS_BETWEEN_LOSS_CHECKS == 0:
                watcher.advance(recipe.batch_size * world * STEPS_BETWEEN_LOSS_CHECKS, _finite(total / seen, epoch))

        record = {
            "epoch": epoch,
            "train_loss": _finite(accelerator.reduce(total, "mean") / seen, epoch),
            **evaluate(ema.module if ema is not None else network, val_loader, accelerator),
            "lr": max(group["lr"] for group in optimizer.param_groups),
            "seconds": round(time.monotonic() - started, 2),
        }
        if sparsifier:
            record |= {"density": sparsifier.densities(), "explored": sparsifier.exploration_rates()}
        history.append(record)
        is_best, best = record["top1"] > best, max(best, record["top1"])
        if accelerator.is_main_process and (
            is_best or (epoch + 1) % recipe.checkpoint_every == 0 or _last(epoch, recipe)
        ):
            state = {
                "recipe": recipe.plain(),
                "epoch": epoch,
                "history": history,
                "best": best,
                "model": model.state_dict(),
                "ema": ema.module.state_dict() if ema is not None else None,
                "optimizer": optimizer.state_dict(),
                "sparsifier": sparsifier.state_dict() if sparsifier else None,
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
            }
            if is_best:
                checkpoint.save(output / "best.safetensors", state)
            if (epoch + 1) % recipe.checkpoint_every == 0 or _last(epoch, recipe):
                checkpoint.save(output / "checkpoints" / f"epoch-{epoch:04}.safetensors", state)
                checkpoint.prune(output / "checkpoints", recipe.keep)
            _write_text(output / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
        accelerator.log(_scalars(record), step=epoch)
        watcher.end_epoch(record)
        accelerator.wait_for_everyone()

    # The final weights, tested once on what no choice has seen.
    if sparsifier:
        sparsifier.squash()
    final = ema.module if ema is not None else model
    summary: dict[str, Any] = {"output": str(output), "epochs": recipe.epochs, "best_top1": best, **history[-1]}
    if recipe.test_split:
        test_set = open_dataset(recipe, recipe.test_split, training=False)
        result = evaluate(final, evaluation_loader(recipe, test_set, rank, world), accelerator)
        summary |= {f"test_{name}": value for name, value in result.items()}
    if accelerator.is_main_process:
        summary["weights_sha256"] = checkpoint.save_weights(
            output / "model.safetensors", final.state_dict(), recipe.plain()
        )
        draw_curves(history, output / "curves.png")
        if sparsifier:
            draw_sparsity(history, output / "sparsity.png")
        _write_text(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    accelerator.end_training()
    return summary


def _accelerator(recipe: Recipe) -> Accelerator:
    if missing := [name for name in recipe.trackers if name not in map(str, get_available_trackers())]:
        raise InputError(f"trackers: {missing[0]} is not installed")
    try:
        return Accelerator(
            cpu=not torch.accelerator.is_available(),
            mixed_precision=recipe.amp,
            gradient_accumulation_steps=recipe.accumulate,
            log_with=list(recipe.trackers) or None,
            project_config=ProjectConfiguration(project_dir=recipe.output, logging_dir=recipe.output),
        )
    except ValueError as error:
        raise InputError(f"amp: {recipe.amp!r} does not run here: {' '.join(str(error).split())}") from error


def _same_recipe(recipe: Recipe, earlier: dict[str, Any], output: Path) -> None:
    for name, value in recipe.plain().items():
        if name not in MAY_CHANGE_ON_RESUME and earlier.get(name) != value:
            raise InputError(
                f"output: {output} holds a run with {name} {earlier.get(name)!r}, not {value!r}; "
                f"want another folder, or the same recipe"
            )


def _last(epoch: int, recipe: Recipe) -> bool:
    return epoch == recipe.epochs - 1


def _finite(loss: Tensor, epoch: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise InputError(f"lr: the loss became {value} in epoch {epoch + 1}; want a lower learning rate or clip_grad")
    return value


def _scalars(record: dict[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in record.items():
        flat |= {f"{name}/{layer}": v for layer, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write_text(text))
