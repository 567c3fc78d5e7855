"""The one way an experiment runs, for every task: training that continues by itself, and testing."""

from __future__ import annotations

import logging
import secrets
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from sw_models.errors import InputError
from sw_sparse.openmmlab.checkpoint import (
    find_checkpoint,
    input_errors,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
)
from sw_sparse.openmmlab.config import SYNTHETIC, use_data
from sw_sparse.openmmlab.hooks import CurvesHook, PlainCheckpointHook, ProgressHook, ResumableHook
from sw_sparse.openmmlab.interrupt import StopRequest, start_worker
from sw_sparse.openmmlab.resumable import resumable
from sw_sparse.openmmlab.run_config import NAME, find_run_config, read_data, write_run_config
from sw_sparse.openmmlab.settings import join_processes, settle
from sw_sparse.openmmlab.task import Task

_OF_THE_SESSION = ("launcher", "load_from", "model_wrapper_cfg", "resume", "work_dir")


def train(task: Task, cfg: Config, folder: Path) -> dict[str, Any]:
    """Train, or continue what was begun in the folder, and return what came out.

    Args:
        task: what is trained.
        cfg: the configuration; with ``data_root = "SYNTHETIC"`` the sample is drawn into the folder.
        folder: of the run: ``config.yaml``, checkpoints, ``curves.png``, and a folder of logs for each session.

    Raises:
        InputError: the folder holds a run of another configuration, or a part of the configuration is not as wanted.
        Interrupted: SIGTERM came, and the state is saved.
    """
    settled = settle(cfg)
    join_processes(settled)
    if cfg.get("data_root") == SYNTHETIC:
        for adapted in (cfg, settled):
            use_data(task, adapted, _sample(task, folder))
    _adopt_folder(cfg, folder)
    newest = newest_checkpoint(folder)
    settled.resume = newest is not None
    settled.load_from = str(newest) if newest else settled.get("load_from")
    meta = read_checkpoint(newest)["meta"] if newest else {"iter": 0, "epoch": 0}
    stop = StopRequest()
    with stop.watched():
        runner = _build_runner(settled, folder, meta, ("train_loop", "val_loop"))
        for hook in (CurvesHook(), PlainCheckpointHook(), ResumableHook(stop)):
            runner.register_hook(hook)
        with _tidy_terminal(runner):
            runner.train()
    hub = runner.message_hub
    best = [key for key in hub.runtime_info if key.startswith("best_score")]
    return {
        "folder": str(folder),
        "checkpoint": str(find_checkpoint(folder)),
        "iterations": runner.iter,
        **{key: hub.get_info(key) for key in best},
    }


def test(cfg: Config, checkpoint: Path, folder: Path) -> dict[str, float]:
    """Return the metrics of a checkpoint on the configuration's test data; logs go to the folder.

    Raises:
        InputError: the checkpoint is not of this model, or a part of the configuration is not as wanted.
    """
    cfg = settle(cfg)
    join_processes(cfg)
    cfg.resume, cfg.load_from = False, None
    runner = _build_runner(cfg, folder, {"iter": 0, "epoch": 0}, ("test_loop",))
    model = runner.model
    while hasattr(model, "module"):  # a wrapper for several processes, or for augmented tests
        model = model.module
    load_weights(model, checkpoint)
    with _tidy_terminal(runner):
        return runner.test()


def _sample(task: Task, folder: Path) -> Path:
    """Draw the sample data set, unless a run has done so."""
    sample = folder / "synthetic-data"
    if is_main_process() and not sample.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / ".synthetic-data"
        shutil.rmtree(unfinished, ignore_errors=True)
        task.sample(unfinished)
        unfinished.rename(sample)
    barrier()
    return sample


def _adopt_folder(cfg: Config, folder: Path) -> None:
    """Write the configuration into a new run's folder; compare it with what is in the folder of an old one."""
    if path := find_run_config(folder):
        before, now = (_flat(c) for c in (Config(read_data(path)), cfg))
        if path.name != NAME:  # version 0.1.0 knew fewer settings, and fewer hooks
            before = {key: value for key, value in before.items() if value not in ([], {})}
            now = {key: value for key, value in now.items() if key in before}
        if differing := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
            key = differing[0]
            raise InputError(
                f"--out: {folder} holds a run with {key}={before.get(key)}, now it is {now.get(key)}; "
                "continue with the settings of that run, or choose another folder"
            )
    elif is_main_process():
        write_run_config(_lasting(cfg), folder)
    barrier()


def _lasting(cfg: Config) -> dict[str, Any]:
    return {key: value for key, value in cfg.to_dict().items() if key not in _OF_THE_SESSION}


def _flat(cfg: Config) -> dict[str, Any]:
    def flatten(value: Any, place: str) -> Iterator[tuple[str, Any]]:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(item, dict | list | tuple) and item:
                yield from flatten(item, f"{place}{key}.")
            else:
                yield f"{place}{key}", item

    return dict(flatten(_lasting(settle(cfg)), ""))


class _Runner(Runner):
    """MMEngine's runner, which can go on in the middle and logs to its file; the terminal gets warnings alone.

    Attributes:
        done: how many iterations were trained before.
        done_epochs: how many epochs were ended before.
    """

    done = done_epochs = 0

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader[Any]:
        """Build a data loader whose processes leave SIGTERM to the one that trains."""
        loader = Runner.build_dataloader(*args, **kwargs)
        loader.worker_init_fn = partial(start_worker, loader.worker_init_fn)
        return loader

    def build_model(self, model: Any) -> Any:
        """Build the model; batch norms that average over processes are plain on CPUs, where torch has none."""
        built = super().build_model(model)
        return built if torch.cuda.is_available() else revert_sync_batchnorm(built)

    def build_train_loop(self, loop: Any) -> Any:
        """Build the loop around a data loader that starts where the training stands."""
        if not isinstance(loop, dict):
            return loop
        settings: Any = self.cfg.train_dataloader
        apart = self._randomness_cfg.get("diff_rank_seed", False)
        loader = self.build_dataloader(settings, seed=self.seed, diff_rank_seed=apart)
        self._train_dataloader = resumable(loader, self.seed, get_rank(), self.done)
        try:
            made = super().build_train_loop(loop)
        finally:
            self._train_dataloader = settings  # which have the batch size, for the learning rate
        batches: Any = made.dataloader.batch_sampler
        if hasattr(made, "dataloader_iterator"):
            made.dataloader_iterator._epoch = batches.epoch
            # MMEngine asks for all batches that were trained on, to skip them.
            made.dataloader_iterator = _after_nothing(self.done, made.dataloader_iterator)
        else:  # an epoch that was trained on to its last batch is still to be ended
            batches.skip = self.done - self.done_epochs * len(batches)
        return made

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build the logger."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.ERROR)
        return logger

    def dump_config(self) -> None:
        """Write nothing; the run's folder has the configuration already."""


def _after_nothing(count: int, batches: Iterator[Any]) -> Iterator[Any]:
    """Yield None so many times, then the batches."""
    yield from [None] * count
    yield from batches


def _build_runner(cfg: Config, folder: Path, done: Mapping[str, int], loops: tuple[str, ...]) -> Runner:
    """Build the runner, and the loops that it would build when it starts: their data may not be as wanted."""
    cfg.work_dir = str(folder)
    # MMEngine keeps loggers and visualizers by their names, and would log a process's second run where its first is.
    cfg.experiment_name = f"{folder.name}_{secrets.token_hex(4)}"
    cfg.visualizer.pop("name", None)
    with input_errors():
        runner = _Runner.from_cfg(cfg)
        runner.done, runner.done_epochs = done["iter"], done["epoch"]
        for loop in loops:
            getattr(runner, loop)
        if "train_loop" in loops:
            if runner.max_iters < 1:
                raise InputError(f"train_cfg: got {runner.max_iters} iterations, want 1 or more")
            kind = cfg.optim_wrapper.get("optimizer", {}).get("type")
            if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
                raise InputError(f"optim_wrapper.optimizer.type: got {kind}, want one of torch's optimizers")
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.register_hook(ProgressHook())
        return runner


@contextmanager
def _tidy_terminal(runner: Runner) -> Iterator[None]:
    """Keep standard output for results, hide what OpenMMLab's packages warn each other of, and end the progress bar."""
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.filterwarnings("ignore", category=UserWarning, module=r"mm(cv|det|engine|seg)\.")
            warnings.filterwarnings("ignore", message="torch.meshgrid")  # they call it as PyTorch 1 had it
            yield
    finally:
        for hook in runner.hooks:
            if isinstance(hook, ProgressHook):
                hook.stop()
