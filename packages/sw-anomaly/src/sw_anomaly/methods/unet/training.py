"""Fitting the method ``unet``: a network learns to find synthetic defects on good views, and real ones too.

All random choices follow from the seed and the number of the step, so a continued run equals an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor

from sw_anomaly.config import TrainingConfig
from sw_anomaly.methods.base import default_device
from sw_anomaly.methods.calibration import Case, average_precision
from sw_anomaly.methods.unet.batches import Views, make_batch
from sw_anomaly.methods.unet.method import IN_CHANNELS, UNetMethod
from sw_anomaly.methods.unet.networks import UNet, create_model
from sw_anomaly.progress import Progress, silent
from sw_models.checkpoints.load import read_file
from sw_models.checkpoints.tensor_file import write_state

STATE, NETWORK = "training_state.safetensors", "network.safetensors"  # while training
REFRESHING_BATCHES = 12  # enough for the statistics of batch norms


def train_network(
    views: Views,
    validation: Sequence[Case],
    config: TrainingConfig,
    folder: Path,
    save: Callable[[UNetMethod], None],
    progress: Progress = silent,
    start: UNetMethod | None = None,
) -> None:
    """Train on ``views``; whenever an epoch is the best so far on the ``validation`` cases, ``save`` is called.

    Called again on a folder where it was interrupted, it continues after the last complete epoch. ``start`` is what it
    starts from.
    """
    device = default_device()
    reference = views.median() if start is None else start.reference.cpu().numpy()
    model = create_model(config.model, IN_CHANNELS, config.seed).to(device).to(memory_format=torch.channels_last)
    if start is not None:
        model.load_state_dict(start.model.state_dict())
    ema = ModelEmaV3(model, decay=config.ema_decay, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, foreach=True)
    stateful = {"model": model, "ema": ema.module, "optimizer": optimizer}
    epoch, best = 0, -math.inf
    if (folder / STATE).is_file():
        state = read_file(folder / STATE)
        epoch, best = state["epoch"], state["best"]
        for name, part in stateful.items():
            part.load_state_dict(state[name])

    while epoch < config.epochs:
        _train_epoch(model, ema, optimizer, views, reference, config, epoch, progress)
        epoch += 1
        _refresh_batch_norms(ema.module, views, reference, config, epoch)
        method = UNetMethod(ema.module, reference, config.image_size)
        precision = average_precision(method, validation)
        if precision > best:
            best = precision
            save(method)
        state = {name: part.state_dict() for name, part in stateful.items()} | {"epoch": epoch, "best": best}
        write_state(folder / STATE, state)


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice; logits [B, 1, h, w] are scaled up to the masks [B, 1, H, W].

    Dice is averaged over the images that have a defect, so that small defects count as much as large ones.
    """
    logits = F.interpolate(logits.float(), masks.shape[-2:], mode="bilinear", align_corners=False)
    found, sizes = torch.sigmoid(logits), masks.sum(dim=(1, 2, 3))
    dice = 2 * (found * masks).sum(dim=(1, 2, 3)) / (found.sum(dim=(1, 2, 3)) + sizes + 1)
    missing = ((1 - dice) * (sizes > 0)).sum() / (sizes > 0).sum().clamp(min=1)
    return F.binary_cross_entropy_with_logits(logits, masks) + missing


def _train_epoch(
    model: UNet,
    ema: ModelEmaV3,
    optimizer: torch.optim.Optimizer,
    views: Views,
    reference: np.ndarray,
    config: TrainingConfig,
    epoch: int,
    progress: Progress,
) -> None:
    model.train()
    device = next(model.parameters()).device
    total = config.steps_per_epoch * config.epochs
    for step in range(epoch * config.steps_per_epoch, (epoch + 1) * config.steps_per_epoch):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _learning_rate_factor((step + 1) / total)
        inputs, masks = make_batch(views, reference, config.batch_size, config.seed, step, device)
        loss = segmentation_loss(model(inputs), masks)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model, step)
        progress("training", step + 1, total, f"epoch {epoch + 1}/{config.epochs}, loss {loss.item():.3f}")


def _learning_rate_factor(done: float) -> float:
    """Rise linearly over the first 5 % of the training, then fall to zero along half a cosine."""
    return min(done / 0.05, 1.0) * 0.5 * (1 + math.cos(math.pi * done))


def _refresh_batch_norms(model: UNet, views: Views, reference: np.ndarray, config: TrainingConfig, epoch: int) -> None:
    """Measure the statistics that the averaged weights produce, on the last batches of the epoch.

    As in stochastic weight averaging (arXiv 1803.05407): averages of other weights' statistics do not fit them.
    """
    end = epoch * config.steps_per_epoch
    device = next(model.parameters()).device
    steps = range(max(end - REFRESHING_BATCHES, 0), end)
    batches = (make_batch(views, reference, config.batch_size, config.seed, step, device)[0] for step in steps)
    torch.optim.swa_utils.update_bn(batches, model)
