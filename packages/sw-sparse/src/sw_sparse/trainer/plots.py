"""The pictures of a run, drawn from its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sw_models.files import write_atomically
from sw_sparse.compaction import Width


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw losses, accuracy and learning rate over the epochs into a PNG."""
    epochs = [record["epoch"] + 1 for record in history]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    losses, accuracy, rate = figure.subplots(1, 3)
    losses.plot(epochs, [r["train_loss"] for r in history], label="training", marker=".")
    losses.plot(epochs, [r["loss"] for r in history], label="validation", marker=".")
    losses.set(title="loss", xlabel="epoch", yscale="log")
    losses.legend()
    accuracy.plot(epochs, [r["top1"] for r in history], marker=".")
    accuracy.set(title="validation top-1, %", xlabel="epoch")
    rate.plot(epochs, [r["lr"] for r in history], marker=".")
    rate.set(title="learning rate", xlabel="epoch")
    for axes in (losses, accuracy, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    _write(figure, path)


def draw_sparsity(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw every layer's density and exploration rate over the epochs into a PNG."""
    epochs = [record["epoch"] + 1 for record in history]
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2, sharey=True),
        ("density", "explored"),
        ("share of units on", "share of units ever on"),
        strict=True,
    ):
        for layer in history[-1][key]:
            axes.plot(epochs, [record[key][layer] for record in history], label=layer, marker=".")
        axes.set(title=title, xlabel="epoch", ylim=(0, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    if len(history[-1]["density"]) <= 20:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize="x-small")
    _write(figure, path)


def draw_widths(widths: Sequence[Width], path: Path) -> None:
    """Draw how many outputs each weight had and how many are left, layer by layer, into a PNG."""
    layers = [width for width in widths if width.before != width.after]
    figure = Figure(figsize=(9, max(2.5, 0.22 * len(layers) + 1.2)), layout="constrained")
    axes = figure.subplots()
    names = [width.layer.removesuffix(".weight") for width in layers]
    axes.barh(names, [width.before for width in layers], color="lightgray", label="before")
    bars = axes.barh(names, [width.after for width in layers], label="left")
    axes.bar_label(bars, [f"{width.after} of {width.before}" for width in layers], padding=3, fontsize="x-small")
    axes.set(title="units left, by layer", xlabel="units")
    axes.tick_params(axis="y", labelsize="x-small")
    axes.invert_yaxis()
    axes.legend(fontsize="x-small")
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
