"""Compares ways to a smaller network: units switched off in training, pruned after it, or never there.

    python packages/sw-sparse/tools/unit_accuracy.py --seeds 10 --epochs 5
    python packages/sw-sparse/tools/unit_accuracy.py --seeds 1 --epochs 4 --data-dir FOLDER

Every network has the same epochs and the same recipe (that of ``sw-sparse train --config digits``, without averaging),
and is tested on images that nothing was chosen on. "Pruned" takes the dense network, switches off the units of the
smallest weights, and trains on for a third of the epochs, which the others do not get.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from sw_sparse import Sparsifier, SparsityConfig, compact
from sw_sparse.trainer.build import build_model, build_optimizer, build_scheduler
from sw_sparse.trainer.data import evaluation_loader, open_dataset, start_epoch, training_loader
from sw_sparse.trainer.evaluate import evaluate
from sw_sparse.trainer.recipe import Recipe, read_recipe

Rows = dict[str, list[float]]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs with seeds 0, 1, ...")
    parser.add_argument("--epochs", type=int, default=15, help="of each training")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="shares of the units")
    parser.add_argument("--data-dir", type=Path, help="a folder with train.tar and val.tar [default: digits]")
    parser.add_argument("--size", type=int, default=96, help="of its images, in pixels")
    options = parser.parse_args()
    settings: dict[str, Any] = {"epochs": options.epochs, "update_every": 10}
    if options.data_dir:
        settings |= {
            "dataset": "tar", "data_dir": str(options.data_dir), "test_split": "val", "num_classes": 10, "hflip": 0.5,
            "input_size": options.size, "scale": [0.35, 1.0], "ratio": [0.75, 1.3333],
        }  # fmt: skip
    started = time.monotonic()
    rows: Rows = {}
    for seed in range(options.seeds):
        for name, top1 in _one_seed(read_recipe("digits", {**settings, "seed": seed}), options.sparsity):
            rows.setdefault(name, []).append(top1)
            print(f"seed {seed}  {name:44} {top1:6.2f} %  {time.monotonic() - started:6.0f} s", flush=True)
    print(f"\ntop-1 in percent, mean and spread of {options.seeds} seeds")
    for name, values in rows.items():
        print(f"{name:44} {mean(values):6.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else ""))


def _one_seed(recipe: Recipe, shares: list[float]) -> Iterator[tuple[str, float]]:
    torch.manual_seed(recipe.seed)
    start: nn.Module = build_model(recipe, num_classes=10).to(memory_format=torch.channels_last)
    dense = _trained(copy.deepcopy(start), recipe)
    yield _row("dense", dense, recipe)
    for share in shares:
        sparse = _trained(copy.deepcopy(start), recipe, {"sparsity": share})
        yield _row(f"units, {share:.0%} off in training", sparse, recipe)
        pruned = copy.deepcopy(dense)
        config = SparsityConfig(sparsity=share, granularity="unit", update="static")
        Sparsifier(pruned, torch.optim.SGD(pruned.parameters(), 0.1), config, inputs=_images(recipe)).squash()
        yield _row(f"{share:.0%} of the smallest pruned", compact(pruned), recipe)
        again = {"sparsity": share, "initialisation": "nonzero", "update": "static"}
        tuned = _trained(pruned, recipe, again, epochs=max(recipe.epochs // 3, 2))
        yield _row(f"{share:.0%} of the smallest pruned, trained on", tuned, recipe)
        fresh: Any = copy.deepcopy(sparse)
        torch.manual_seed(recipe.seed)
        fresh.init_weights()
        yield _row(f"the network of {share:.0%} off from scratch", _trained(fresh, recipe), recipe)


def _trained(model: nn.Module, recipe: Recipe, sparsity: dict[str, Any] | None = None, epochs: int = 0) -> nn.Module:
    """Train, and return the model, compact where it is sparse."""
    recipe = Recipe(**{**vars(recipe), "epochs": epochs or recipe.epochs})
    loader = training_loader(recipe, open_dataset(recipe, recipe.train_split, training=True), 0, 1)
    optimizer = build_optimizer(recipe, model)
    scheduler = build_scheduler(recipe, optimizer, len(loader))
    sparsifier = None
    if sparsity:
        settings = {"granularity": "unit", "update_every": 10, "schedule": "cosine", **sparsity}
        config = SparsityConfig(**settings, total_steps=recipe.epochs * len(loader) * 3 // 4)
        sparsifier = Sparsifier(model, optimizer, config, inputs=_images(recipe))
    for epoch in range(recipe.epochs):
        model.train()
        for number, (images, labels) in enumerate(start_epoch(loader, recipe.seed, epoch, 0)):
            scheduler.step_update(epoch * len(loader) + number)
            F.cross_entropy(model(images), labels, label_smoothing=recipe.smoothing).backward()
            optimizer.step()
            if sparsifier:
                sparsifier.step()
            optimizer.zero_grad()
    return sparsifier.compact(model) if sparsifier else model


def _row(name: str, model: nn.Module, recipe: Recipe) -> tuple[str, float]:
    numbers = sum(parameter.numel() for parameter in model.parameters())
    loader = evaluation_loader(recipe, open_dataset(recipe, recipe.test_split or "", training=False), 0, 1)
    return f"{name} ({numbers / 1e3:.0f} k)", evaluate(model, loader, Accelerator(cpu=True))["top1"]


def _images(recipe: Recipe) -> tuple[torch.Tensor]:
    return (torch.zeros(2, 3, recipe.input_size, recipe.input_size),)


if __name__ == "__main__":
    main()
