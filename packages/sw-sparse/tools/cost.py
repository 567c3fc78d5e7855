"""Measure what the engine costs: its share of a training step, and the time of a mask update.

python packages/sw-sparse/tools/cost.py [--batch 32] [--size 224] [--threads 2]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import nn

import sw_models  # noqa: F401  (registers the models)
from sw_sparse import Sparsifier, SparsityConfig


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Return the median time of an action, after one call to warm up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def sparse(model: nn.Module, **settings: Any) -> tuple[torch.optim.Optimizer, Sparsifier]:
    """Return an AdamW and a sparsifier as in the paper's recipe, with momenta and gradients in place."""
    optimizer = torch.optim.AdamW(model.parameters())
    config = SparsityConfig(
        **{"sparsity": 0.3, "granularity": "shared_filter", "targets": "*.conv.weights.*", **settings}
    )
    sparsifier = Sparsifier(model, optimizer, config)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    sparsifier.step()
    return optimizer, sparsifier


def follow(optimizer: torch.optim.Optimizer, sparsifier: Sparsifier) -> None:
    """Do all that the engine does in a step, and nothing of the optimizer's own work."""
    sparsifier._before_optimizer_step(optimizer)
    sparsifier._after_optimizer_step(optimizer)
    sparsifier.step()


def overhead(batch: int, size: int) -> None:
    """Print the engine's share of a step of ``shiftwise_nano`` without an update."""
    model = timm.create_model("shiftwise_nano", num_classes=1000)
    optimizer, sparsifier = sparse(model, update_every=10**9)
    images, labels = torch.randn(batch, 3, size, size), torch.zeros(batch, dtype=torch.int64)

    def training_step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        sparsifier.step()

    def engine() -> None:
        follow(optimizer, sparsifier)

    whole, own = seconds(training_step, 3), seconds(engine, 50)
    print(f"shiftwise_nano, batch {batch}, {size} px: step {whole * 1e3:.0f} ms, of it the engine {own * 1e3:.2f} ms")
    print(f"engine's share: {100 * own / whole:.3f} %")


def update() -> None:
    """Print the time of an update of the masks of ``shiftwise_tiny``."""
    everything = ("*.conv.weights.*", "*.expand.weight", "*.project.weight")
    variants: dict[str, dict[str, Any]] = {
        "filters, SET": {},
        "filters, RigL": {"update": "rigl"},
        "elements of all layers, SET": {"granularity": "element", "targets": everything},
        "elements of all layers, RigL": {"granularity": "element", "targets": everything, "update": "rigl"},
        "2:4 of the pointwise layers, RigL": {
            "granularity": "2:4",
            "targets": everything[1:],
            "update": "rigl",
            "sparsity": None,
        },
    }
    for label, settings in variants.items():
        parts = sparse(timm.create_model("shiftwise_tiny", num_classes=1000), update_every=1, **settings)
        print(f"shiftwise_tiny, {label}: update {seconds(functools.partial(follow, *parts), 5):.4f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    update()
    overhead(arguments.batch, arguments.size)
