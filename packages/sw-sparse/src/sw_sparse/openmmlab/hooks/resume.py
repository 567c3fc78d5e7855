"""Trainings that can be stopped between two iterations and go on as if they had not been."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from sw_models.errors import Interrupted
from sw_sparse.openmmlab.checkpoint import INTERRUPTED
from sw_sparse.openmmlab.hooks.curves import read_log
from sw_sparse.openmmlab.interrupt import StopRequest
from sw_sparse.openmmlab.resumable import seed_iteration


class ResumableHook(Hook):
    """Seeds every iteration by its number, and leaves a checkpoint and the run when SIGTERM has come.

    A run that was killed after a checkpoint was written and before it was validated begins with that validation.

    Args:
        stop: whether it has come.
    """

    priority = "LOWEST"  # after averages were swapped back

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop

    def before_train(self, runner: Any) -> None:
        """Validate the checkpoint that is continued from, if that is due and the log does not have it."""
        if runner.iter and runner.val_loop is not None and _ends_at_validation(runner.train_loop):
            step = runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else runner.iter
            if step not in read_log(Path(runner.work_dir))[1]:
                runner.val_loop.run()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the iteration draws."""
        seed_iteration(runner.seed, get_rank(), runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop if that was asked for."""
        self._stop_if_asked(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Stop if that was asked for meanwhile."""
        self._stop_if_asked(runner, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Remove what an earlier session left."""
        if get_rank() == 0:
            (Path(runner.work_dir) / INTERRUPTED).unlink(missing_ok=True)

    def _stop_if_asked(self, runner: Any, iterations: int) -> None:
        if not self.stop.received or iterations >= runner.max_iters:
            return
        meta = {"epoch": runner.epoch, "iter": iterations}
        runner.save_checkpoint(
            runner.work_dir, INTERRUPTED, meta=meta, by_epoch=False, backend_args={"backend": "atomic_local"}
        )
        raise Interrupted(
            f"stopped by SIGTERM after iteration {iterations} of {runner.max_iters}, which is in"
            f" {Path(runner.work_dir) / INTERRUPTED}; give the same command again to go on",
            signal.SIGTERM,
        )


def _ends_at_validation(loop: Any) -> bool:
    """Whether a training loop would have validated where it stands."""
    match loop:
        case EpochBasedTrainLoop():
            done, end = loop.epoch, loop.max_epochs
        case IterBasedTrainLoop():
            done, end = loop.iter, loop.max_iters
        case _:
            return False
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)
