"""Pictures of what the commands measure. Each function writes one PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sw_models.analysis.sparsity import LayerSparsity
from sw_models.analysis.throughput import Speed


def draw_receptive_fields(fields: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw the fields of several models side by side, on a logarithmic scale of their own each."""
    figure = Figure(figsize=(4 * len(fields), 4.4), layout="constrained")
    for axes, (name, field) in zip(figure.subplots(1, len(fields), squeeze=False)[0], fields.items(), strict=True):
        scaled = np.log10(field / field.max() * 1e4 + 1)
        axes.imshow(scaled / scaled.max(), cmap="magma", vmin=0, vmax=1)
        axes.set(title=name, xticks=[], yticks=[])
    figure.savefig(path, dpi=130)


def draw_speeds(speeds: Sequence[Speed], path: Path) -> None:
    """Draw images per second as bars, the fastest on top."""
    ordered = sorted(speeds, key=lambda speed: speed.images_per_second)
    figure = Figure(figsize=(8, 1 + 0.4 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [describe(speed) for speed in ordered],
        [speed.images_per_second for speed in ordered],
        color=["tab:orange" if speed.setting.train else "tab:blue" for speed in ordered],
    )
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(xlabel="images per second")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def describe(speed: Speed) -> str:
    """Name a setting in a few words."""
    setting = speed.setting
    kind = ("training" if setting.train else "inference") + f", {setting.runtime}"
    where = setting.layout.replace("_", "-")
    return f"{setting.model}, {setting.precision}, {where}, batch {setting.batch}, {kind}"


def draw_sparsity(layers: Sequence[LayerSparsity], path: Path) -> None:
    """Draw the share of zero kernels over depth, and for the first layer of each stage over the slots."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    depth, slots = figure.subplots(2, 1)
    depth.bar(range(len(layers)), [layer.merged for layer in layers], color="tab:blue", label="in all paths")
    for i in range(len(layers[0].per_path)):
        depth.plot([layer.per_path[i] for layer in layers], "o", markersize=3, label=f"in path {i}")
    depth.set(xlabel="layer, by depth", ylabel="zero kernels", ylim=(0, 1))
    depth.legend()
    seen: dict[str, LayerSparsity] = {}
    for layer in layers:
        seen.setdefault(layer.name.split(".blocks")[0], layer)
    for stage, layer in seen.items():
        slots.plot(layer.per_slot, "o-", label=stage)
    slots.set(xlabel="slot", ylabel="channels where it is zero", ylim=(0, 1))
    slots.legend()
    figure.savefig(path, dpi=130)


def draw_coverage(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw, for each stage, the share of used values against the number of shuffles, shuffled and ordered."""
    figure = Figure(figsize=(3.2 * len(curves), 3.4), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (stage, lines) in zip(panels, curves.items(), strict=True):
        for label, shares in lines.items():
            axes.plot(range(1, len(shares) + 1), shares, "o-", label=label)
        axes.set(title=stage, xlabel="shuffles", ylim=(0, 1.02))
    panels[0].set_ylabel("values used at least once")
    panels[0].legend()
    figure.savefig(path, dpi=130)


def draw_macs(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draw the operations of several models as stacked bars, by kind of layer."""
    kinds = ("large kernels", "depthwise", "pointwise", "convolutions", "linear")
    figure = Figure(figsize=(8, 1.4 + 0.5 * len(counts)), layout="constrained")
    axes = figure.subplots()
    start = np.zeros(len(counts))
    for kind in kinds:
        widths = np.array([count[kind] / 1e9 for count in counts.values()])
        axes.barh(list(counts), widths, left=start, label=kind)
        start += widths
    axes.set(xlabel="GMACs per image")
    axes.legend(ncols=len(kinds), fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.3 / len(counts) - 0.15))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
