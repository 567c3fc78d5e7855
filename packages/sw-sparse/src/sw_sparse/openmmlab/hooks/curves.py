"""The learning curves of a run, drawn from its log."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from sw_sparse.openmmlab.hooks.checkpoint import AtomicLocalBackend

MAX_METRICS = 12  # more lines than that nobody tells apart


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draws ``curves.png`` into the run's folder after each validation: losses, metrics, learning rate."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._drawn_at = -1  # iteration

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Draw anew."""
        self._draw(runner)

    def after_train(self, runner: Any) -> None:
        """Draw anew."""
        self._draw(runner)

    def _draw(self, runner: Any) -> None:
        if is_main_process() and self._drawn_at != runner.iter:
            self._drawn_at = runner.iter
            draw_curves(Path(runner.work_dir))


def draw_curves(folder: Path) -> None:
    """Draw the log of all sittings of a run into ``curves.png``; nothing where there is no log yet."""
    training, validation = read_log(folder)
    if not training:
        return
    figure = Figure(figsize=(13, 4))
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.12, top=0.92, wspace=0.17)
    losses, metrics, rate = figure.subplots(1, 3)
    for name in _names(training, lambda key: "loss" in key):
        _plot(losses, training, name)
    losses.set(title="loss", xlabel="iteration", yscale="log")
    for name in _names(validation, lambda key: key not in ("step", "time", "data_time"))[:MAX_METRICS]:
        _plot(metrics, validation, name)
    metrics.set(title="validation", xlabel="iteration or epoch")
    _plot(rate, training, "lr")
    rate.set(title="learning rate", xlabel="iteration")
    for axes in (losses, metrics, rate):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="x-small")
    AtomicLocalBackend().put(_png(figure), folder / "curves.png")


def read_log(folder: Path) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """Return what was logged of training and validation, by step; a later sitting's record replaces an earlier's."""
    training: dict[int, dict[str, Any]] = {}
    validation: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            (training if "loss" in record else validation)[record["step"]] = record
    return dict(sorted(training.items())), dict(sorted(validation.items()))


def _names(records: Mapping[int, Mapping[str, Any]], wanted: Any) -> list[str]:
    return list(dict.fromkeys(key for record in records.values() for key in record if wanted(key)))


def _plot(axes: Any, records: Mapping[int, Mapping[str, Any]], name: str) -> None:
    points = [(step, record[name]) for step, record in records.items() if name in record]
    axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 50 else None)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
