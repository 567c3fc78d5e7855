"""A progress bar for OpenMMLab's runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows iterations, loss and the time that is left on a terminal, and prints a line after each validation."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._train: TaskID | None = None
        self._evaluate: TaskID | None = None

    def before_train(self, runner: Any) -> None:
        """Start the bar where the run stands."""
        if progress := self._started():
            self._train = progress.add_task("training", total=runner.max_iters, completed=runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Move the bar."""
        if self._progress and self._train is not None:
            loss = runner.message_hub.get_scalar("train/loss").current()
            self._progress.update(self._train, completed=runner.iter + 1, description=f"training, loss {loss:.3f}")

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
        self._console.print(
            f"iteration {runner.iter:6}  " + "  ".join(f"{name} {metrics[name]:.4g}" for name in names),
            markup=False,
            highlight=False,
        )

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

    def _started(self) -> Progress | None:
        if self._progress is None and is_main_process():
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._progress = Progress(
                *columns, console=self._console, transient=True, disable=not self._console.is_terminal
            )
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
