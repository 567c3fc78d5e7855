"""The training loop. Read it once, from top to bottom, and you know everything that a run does."""

from __future__ import annotations

import json
import math
import signal
import time
from contextlib import nullcontext
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

from sw_models.checkpoints.tensor_file import write_state
from sw_models.errors import InputError, Interrupted
from sw_models.files import lock_folder, make_folder, write_atomically
from sw_sparse.granularity import COMPOUND
from sw_sparse.sparsifier import Sparsifier
from sw_sparse.trainer import checkpoint
from sw_sparse.trainer.artifacts import first_channels, write_compact, write_timm_config
from sw_sparse.trainer.build import (
    build_model,
    build_optimizer,
    build_scheduler,
    refuse_unknown_parts,
    set_weight_decay,
)
from sw_sparse.trainer.callbacks import Callback
from sw_sparse.trainer.classes import bind_labels, class_names, number_of_classes
from sw_sparse.trainer.data import evaluation_loader, open_dataset, seed_everything, start_epoch, training_loader
from sw_sparse.trainer.data_identity import identity_of, refuse_other_data
from sw_sparse.trainer.evaluate import evaluate
from sw_sparse.trainer.image_folder import describe_left_out
from sw_sparse.trainer.interruption import Interruption
from sw_sparse.trainer.plots import draw_curves, draw_sparsity
from sw_sparse.trainer.processes import keep_global_batch
from sw_sparse.trainer.recipe import MAY_CHANGE_ON_RESUME, Recipe, recipe_from

STEPS_BETWEEN_LOSS_CHECKS = 20


def train(recipe: Recipe, callback: Callback | None = None) -> dict[str, Any]:
    """Train as the recipe says, continuing what its output folder holds, and return the summary.

    Under torchrun every process calls this. The folder then holds ``checkpoints/``, ``best.safetensors``,
    ``model.safetensors`` (the final weights) with ``config.json`` for timm, ``compact.safetensors`` with ``widths.png``
    where units are off, ``log.jsonl``, ``summary.json`` and the pictures.

    Raises:
        InputError: for input that the user can mend, and for a model that diverged.
        Interrupted: at SIGTERM or SIGINT, after a checkpoint was written that the next call goes on from.
    """
    output = Path(recipe.output)
    refuse_unknown_parts(recipe)
    make_folder("output", output)
    accelerator = _accelerator(recipe)
    with lock_folder(output) if accelerator.is_main_process else nullcontext():
        return _train(recipe, callback, accelerator)


def _train(recipe: Recipe, callback: Callback | None, accelerator: Accelerator) -> dict[str, Any]:
    output, asked = Path(recipe.output), recipe.plain()
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    if callback is None or not accelerator.is_main_process:
        callback = Callback()

    # What the output folder holds already.
    state = checkpoint.newest(output / "checkpoints", callback.note)
    if state:
        _same_recipe(asked, state["recipe"], output)
        recipe = keep_global_batch(recipe, state.get("images_per_step", _images_per_step(recipe, world)), world)
        accelerator.gradient_accumulation_steps = recipe.accumulate
        if recipe.plain() != asked:
            callback.note(f"{world} processes, {recipe.batch_size} images each, {recipe.accumulate} times per step")

    # Data. The labels of the training data are everybody's.
    train_set = open_dataset(recipe, recipe.train_split, training=True)
    val_set = open_dataset(recipe, recipe.val_split, training=False)
    test_set = open_dataset(recipe, recipe.test_split, training=False) if recipe.test_split else None
    names = class_names(train_set)
    classes = number_of_classes(recipe.num_classes, names)
    identity = {}
    for split, dataset in ((recipe.train_split, train_set), (recipe.val_split, val_set), (recipe.test_split, test_set)):
        if dataset is not None and split is not None:
            bind_labels(dataset, names, repr(split))
            identity[split] = identity_of(dataset)
            if line := describe_left_out(dataset, split):
                callback.note(line)
    if state:
        refuse_other_data(state.get("data", {}), identity, recipe.output)
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
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if ema is not None:
            ema.module.load_state_dict(state["ema"])
        if accelerator.scaler:
            accelerator.scaler.load_state_dict(state["scaler"])
    sparsity = recipe.sparsity_config(total_steps=recipe.epochs * steps_per_epoch)
    sparsifier = None
    if sparsity:
        first_batch = None
        if sparsity.distribution == "snip" and not state:
            first_batch = next(start_epoch(loader, recipe.seed, 0, rank))

        def first_loss(network: nn.Module) -> Tensor:
            assert first_batch is not None
            return F.cross_entropy(network.train()(first_batch[0].to(device)), first_batch[1].to(device))

        try:
            sparsifier = Sparsifier(
                model, optimizer, sparsity, loss=first_loss, ema=ema.module if ema is not None else None,
                state=state["sparsifier"] if state else None,
                inputs=(torch.zeros(2, first_channels(model), recipe.input_size, recipe.input_size),),
            )  # fmt: skip
        except ValueError as error:
            raise InputError(str(error)) from error

    # Continue where the newest sound checkpoint stopped: after an epoch, or after a step within one.
    first_epoch, first_step, history, best = 0, 0, [], -math.inf
    total, seen = torch.zeros((), device=device), 0
    if state:
        history, best, first_step = state["history"], state["best"], state.get("step") or 0
        first_epoch = state["epoch"] + (0 if first_step else 1)
        if first_step:
            seen = first_step * recipe.accumulate  # the same steps, in as many passes as they would take now
            total = state["loss"].to(device) * (seen / state["passes"])
        after = f"step {first_step} of epoch {first_epoch + 1}" if first_step else f"epoch {first_epoch}"
        callback.note(f"continuing {output} after {after}")

    def write_checkpoint(path: Path, epoch: int, **within_epoch: Any) -> None:
        state = {
            "recipe": asked,
            "images_per_step": _images_per_step(recipe, world),
            "data": identity,
            "classes": names,
            "epoch": epoch,
            **within_epoch,
            "history": history,
            "best": best,
            "model": model.state_dict(),
            "ema": ema.module.state_dict() if ema is not None else None,
            "optimizer": optimizer.state_dict(),
            "sparsifier": sparsifier.state_dict() if sparsifier else None,
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
        }
        checkpoint.refuse_unsound(state, epoch)
        if accelerator.is_main_process:
            write_state(path, state)

    network, prepared_optimizer = accelerator.prepare(model, optimizer)
    compiled = torch.compile(network) if recipe.compile else network
    accelerator.init_trackers(
        "sw-sparse",
        config={k: str(v) for k, v in recipe.plain().items()},
        init_kwargs={"wandb": {"dir": recipe.output}},
    )

    with Interruption(recipe.checkpoint_minutes) as interruption:
        for epoch in range(first_epoch, recipe.epochs):
            first_pass = first_step * recipe.accumulate
            passes = range(first_pass, steps_per_epoch * recipe.accumulate)
            batches = start_epoch(loader, recipe.seed, epoch, rank, first_pass)
            network.train()
            started, images_per_pass = time.monotonic(), recipe.batch_size * world
            images_per_epoch = steps_per_epoch * _images_per_step(recipe, world)
            callback.start_epoch(epoch, recipe.epochs, images_per_epoch, first_pass * images_per_pass)
            for number, (images, labels) in zip(passes, batches, strict=False):
                if int(labels.max()) >= classes:
                    raise InputError(f"num_classes: got {classes}, but the data have the label {int(labels.max())}")
                seed_everything(recipe.seed, epoch, rank, number)
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
                    callback.advance(images_per_pass * STEPS_BETWEEN_LOSS_CHECKS, _finite(total / seen, epoch))
                due, stop = interruption.agree(accelerator) if accelerator.sync_gradients else (False, 0)
                if due or stop:
                    done = (number + 1) // recipe.accumulate
                    path = checkpoint.file_of(output / "checkpoints", epoch, done)
                    write_checkpoint(path, epoch, step=done, loss=accelerator.reduce(total, "mean"), passes=seen)
                    if accelerator.is_main_process:
                        checkpoint.prune(output / "checkpoints", recipe.keep)
                    accelerator.wait_for_everyone()
                    if stop:
                        raise Interrupted(
                            f"stopped by {signal.Signals(stop).name} after step {done} of {steps_per_epoch} in epoch"
                            f" {epoch + 1}; the same command continues from there",
                            stop,
                        )

            record = {
                "epoch": epoch,
                "train_loss": _finite(accelerator.reduce(total, "mean") / seen, epoch),
                **evaluate(ema.module if ema is not None else network, val_loader, accelerator),
                "lr": max(group["lr"] for group in optimizer.param_groups),
                "seconds": round(time.monotonic() - started, 2),
            }
            _finite(record["loss"], epoch)
            if sparsifier:
                record |= {"density": sparsifier.densities(), "explored": sparsifier.exploration_rates()}
            history.append(record)
            is_best, best = record["top1"] > best, max(best, record["top1"])
            kept = (epoch + 1) % recipe.checkpoint_every == 0 or epoch == recipe.epochs - 1
            if is_best:
                write_checkpoint(output / "best.safetensors", epoch)
            if kept:
                write_checkpoint(checkpoint.file_of(output / "checkpoints", epoch), epoch)
            if accelerator.is_main_process and (is_best or kept):
                checkpoint.prune(output / "checkpoints", recipe.keep)
                _write_text(output / "log.jsonl", "".join(json.dumps(line, allow_nan=False) + "\n" for line in history))
            accelerator.log(_scalars(record), step=epoch)
            callback.end_epoch(record)
            accelerator.wait_for_everyone()
            first_step, total, seen = 0, torch.zeros((), device=device), 0

    # The final weights, tested once on what no choice has seen.
    if sparsifier:
        sparsifier.squash()
    final = ema.module if ema is not None else model
    summary: dict[str, Any] = {"output": str(output), "epochs": recipe.epochs, "best_top1": best, **history[-1]}
    if test_set is not None:
        result = evaluate(final, evaluation_loader(recipe, test_set, rank, world), accelerator)
        summary |= {f"test_{name}": value for name, value in result.items()}
    if accelerator.is_main_process:
        summary["weights_sha256"] = checkpoint.save_weights(
            output / "model.safetensors", final.state_dict(), asked, names
        )
        write_timm_config(output, recipe, final, names)
        if sparsifier and recipe.granularity in COMPOUND:
            summary |= write_compact(
                output / "compact.safetensors", recipe, final, names, output / "widths.png"
            )  # fmt: skip
        draw_curves(history, output / "curves.png")
        if sparsifier:
            draw_sparsity(history, output / "sparsity.png")
        _write_text(output / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
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
        raise InputError(f"amp: {recipe.amp!r} does not run here: {error}") from error


def _images_per_step(recipe: Recipe, world: int) -> int:
    return recipe.batch_size * recipe.accumulate * world


def _same_recipe(asked: dict[str, Any], earlier: dict[str, Any], output: Path) -> None:
    before = recipe_from(dict(earlier), str(output)).plain()  # with the defaults of options that are newer than it
    for name, value in asked.items():
        if name not in MAY_CHANGE_ON_RESUME and before[name] != value:
            raise InputError(
                f"output: {output} holds a run with {name} {before[name]!r}, not {value!r}; "
                f"want another folder, or the same recipe"
            )


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
