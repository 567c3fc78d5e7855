"""Progress of OpenMMLab's runner: a bar on a terminal, lines in a file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sw_models.console import Bars


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows iterations, loss and the time that is left, and prints a line after each validation.

    A terminal gets a bar. Where standard error is a file, it gets a line from time to time.

    Args:
        interval: seconds between such lines.
    """

    priority = "LOWEST"

    def __init__(self, interval: float = 30.0) -> None:
        self.interval = interval
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._train: TaskID | None = None
        self._evaluate: TaskID | None = None
        self._started_at = (0.0, 0)  # time and iteration
        self._last_line = 0.0

    def before_train(self, runner: Any) -> None:
        """Start the bar where the run stands; say where the log is."""
        self._started_at = (time.monotonic(), runner.iter)
        self._last_line = float("-inf")
        if progress := self._started():
            self._train = progress.add_task("training", total=runner.max_iters, completed=runner.iter)
            if not self._console.is_terminal:
                self._print(f"training to iteration {runner.max_iters}, log in {Path(runner.log_dir)}")

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Move the bar, or print a line."""
        if not self._progress or self._train is None:
            return
        done = runner.iter + 1
        if self._console.is_terminal:
            loss = runner.message_hub.get_scalar("train/loss").current()
            self._progress.update(self._train, completed=done, description=f"training, loss {loss:.3f}")
        elif time.monotonic() - self._last_line >= self.interval:
            self._last_line = time.monotonic()
            loss = runner.message_hub.get_scalar("train/loss").current()
            start, first = self._started_at
            left = (self._last_line - start) / (done - first) * (runner.max_iters - done)
            self._print(f"iteration {done:6} of {runner.max_iters}  loss {loss:.4g}  {_duration(left)} left")

    def before_val_epoch(self, runner: Any) -> None:
        """Show a second bar."""
        self._begin_evaluation("validation", runner.val_dataloader)

    def before_test_epoch(self, runner: Any) -> None:
        """Show the only bar."""
        self._begin_evaluation("test", runner.test_dataloader)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the second bar."""
        self._advance_evaluation()

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the bar."""
        self._advance_evaluation()

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Print the metric that decides which checkpoint is best."""
        self._end_evaluation()
        if not metrics or not is_main_process():
            return
        deciding = [key for hook in runner.hooks if isinstance(hook, CheckpointHook) for key in hook.save_best or ()]
        names = [key for key in deciding if key in metrics] or list(metrics)[:1]
        self._print(f"iteration {runner.iter:6}  " + "  ".join(f"{name} {metrics[name]:.4g}" for name in names))

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Take the bar away."""
        self._end_evaluation()
        self.stop()

    def after_train(self, runner: Any) -> None:
        """Take the bar away."""
        self.stop()

    def stop(self) -> None:
        """Give the terminal back; to be called when the runner fails."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _started(self) -> Progress | None:
        if self._progress is None and is_main_process():
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._progress = Bars(*columns, console=self._console, transient=True)
            self._progress.start()
        return self._progress

    def _begin_evaluation(self, what: str, batches: Any) -> None:
        if progress := self._started():
            self._evaluate = progress.add_task(what, total=len(batches))

    def _advance_evaluation(self) -> None:
        if self._progress and self._evaluate is not None:
            self._progress.advance(self._evaluate)

    def _end_evaluation(self) -> None:
        if self._progress and self._evaluate is not None:
            self._progress.remove_task(self._evaluate)
            self._evaluate = None


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
