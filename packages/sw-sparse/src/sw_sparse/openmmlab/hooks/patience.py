"""Early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from sw_sparse.openmmlab.data_report import say
from sw_sparse.openmmlab.hooks.curves import read_log


@HOOKS.register_module()
class PatienceHook(Hook):
    """Stops a training whose validations do not get better; a resumed one counts those of earlier sessions.

    Args:
        metric: such as "mIoU".
        patience: how many validations may pass without a better one.
        rule: "greater" or "less": which is better.
    """

    priority = "LOW"  # after the checkpoint of the best

    def __init__(self, metric: str, patience: int, rule: str = "greater") -> None:
        self.metric, self.patience, self.sign = metric, patience, 1.0 if rule == "greater" else -1.0
        self._best, self._waited = -math.inf, 0

    def before_train(self, runner: Any) -> None:
        """Count what the log of earlier sessions has."""
        now = {runner.epoch, runner.iter}
        for step, record in read_log(Path(runner.work_dir))[1].items():
            if step <= max(now):
                self._count(record)
        self._stop_if_over(runner)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Count a validation."""
        self._count(metrics or {})
        self._stop_if_over(runner)

    def _count(self, metrics: Mapping[str, float]) -> None:
        if self.metric not in metrics:
            return
        value = self.sign * metrics[self.metric]
        better = value > self._best  # never of a NaN
        self._best, self._waited = (value, 0) if better else (self._best, self._waited + 1)

    def _stop_if_over(self, runner: Any) -> None:
        if self._waited >= self.patience:
            runner.train_loop.stop_training = True
            say(f"{self.metric} was not better in {self._waited} validations: training ends")
