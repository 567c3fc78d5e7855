"""The one way an experiment runs, for every task: training that continues by itself, and testing."""

from __future__ import annotations

import logging
import pickle
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.dist import barrier, is_main_process
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner

from sw_models.errors import InputError
from sw_sparse.openmmlab.config import SYNTHETIC, use_data
from sw_sparse.openmmlab.hooks.checkpoint import AtomicLocalBackend
from sw_sparse.openmmlab.hooks.progress import ProgressHook
from sw_sparse.openmmlab.settings import settle
from sw_sparse.openmmlab.task import Task

_OF_THE_SITTING = ("launcher", "load_from", "model_wrapper_cfg", "resume", "work_dir")


def train(task: Task, cfg: Config, folder: Path) -> dict[str, Any]:
    """Train, or continue what was begun in the folder, and return what came out.

    Args:
        task: what is trained.
        cfg: the configuration; with ``data_root = "SYNTHETIC"`` the sample is drawn into the folder.
        folder: of the run: ``config.py``, checkpoints, ``curves.png``, and a folder of logs for each sitting.

    Raises:
        InputError: the folder holds a run of another configuration, or a part of the configuration is not as wanted.
    """
    settle(cfg)
    if cfg.get("data_root") == SYNTHETIC:
        use_data(task, cfg, _sample(task, folder))
    _adopt_folder(cfg, folder)
    newest = _newest_sound_checkpoint(folder)
    cfg.resume, cfg.load_from = newest is not None, str(newest) if newest else cfg.get("load_from")
    runner = _build_runner(cfg, folder, "train_loop", "val_loop")
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
    settle(cfg)
    cfg.resume, cfg.load_from = False, None
    runner = _build_runner(cfg, folder, "test_loop")
    model = runner.model
    while hasattr(model, "module"):  # a wrapper for several processes, or for augmented tests
        model = model.module
    load_weights(model, checkpoint)
    with _tidy_terminal(runner):
        return runner.test()


def load_model(cfg: Config, checkpoint: Path | None = None) -> Any:
    """Return the configuration's model in evaluation mode, on the GPU if any, with ``cfg`` and ``dataset_meta``.

    Args:
        cfg: the configuration.
        checkpoint: random weights if None.

    Raises:
        InputError: as :func:`test`.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    with _input_errors():
        model = MODELS.build(cfg.model)
    model.cfg = cfg
    content = load_weights(model, checkpoint) if checkpoint is not None else {}
    model.dataset_meta = content.get("meta", {}).get("dataset_meta") or _dataset_meta(cfg)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def load_weights(model: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Load a whole model's checkpoint, completely, and return what the file holds.

    Raises:
        InputError: it cannot be read without running code, or is of another model; the message names what differs.
    """
    content = _read(path)
    state = {key.removeprefix("module."): value for key, value in content.get("state_dict", content).items()}
    want_fitting(model, state, path)
    model.load_state_dict(state)
    return content


def want_fitting(model: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise an ``InputError`` that names what differs between a model and the weights of a file."""
    wanted = model.state_dict()
    if missing := wanted.keys() - state.keys():
        raise InputError(f"checkpoint: {path} is of another model: it lacks {_summary(missing)}, which the model has")
    if unexpected := state.keys() - wanted.keys():
        raise InputError(
            f"checkpoint: {path} is of another model: it has {_summary(unexpected)}, which the model lacks"
        )
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            found, want = tuple(state[key].shape), tuple(value.shape)
            raise InputError(f"checkpoint: {path} is of another model: {key} is {found} in it, want {want}")


def find_checkpoint(folder: Path) -> Path:
    """Return a run's best checkpoint, or its newest.

    Raises:
        InputError: there is none.
    """
    for pattern in ("best_*.pth", "*_*.pth"):
        if found := sorted(folder.glob(pattern), key=_step):
            return found[-1]
    raise InputError(f"no checkpoint in {folder}: train first, or name one with --checkpoint")


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    """Return what the configuration's test data set says of its classes, without looking for its files."""
    dataset = cfg.test_dataloader.dataset
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope", "mmengine")) as registry:
        kind = registry.get(dataset.type)
    if kind is None or not issubclass(kind, BaseDataset):
        return {}
    return DATASETS.build({**dataset, "lazy_init": True}).metainfo


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
    path = folder / "config.py"
    if path.is_file():
        before, now = (_flat(c) for c in (Config.fromfile(path, import_custom_modules=False), cfg))
        if differing := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
            key = differing[0]
            raise InputError(
                f"--out: {folder} holds a run with {key}={before.get(key)}, now it is {now.get(key)}; "
                "continue with the settings of that run, or choose another folder"
            )
    elif is_main_process():
        AtomicLocalBackend().put(Config(_lasting(cfg)).pretty_text.encode(), path)
    barrier()


def _lasting(cfg: Config) -> dict[str, Any]:
    return {key: value for key, value in cfg.to_dict().items() if key not in _OF_THE_SITTING}


def _flat(cfg: Config) -> dict[str, Any]:
    def flatten(value: Any, place: str) -> Iterator[tuple[str, Any]]:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(item, dict | list | tuple) and item:
                yield from flatten(item, f"{place}{key}.")
            else:
                yield f"{place}{key}", item

    return dict(flatten(_lasting(cfg), ""))


def _newest_sound_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint to continue from that can be read, naming those that cannot."""
    candidates = [path for path in folder.glob("*_*.pth") if re.fullmatch(r"(iter|epoch)_\d+", path.stem)]
    for path in sorted(candidates, key=_step, reverse=True):
        try:
            _read(path)
        except InputError as error:
            logging.getLogger(__name__).warning("%s; trying the one before", error)
        else:
            return path
    return None


def _step(path: Path) -> int:
    return int(re.findall(r"\d+", path.stem)[-1])


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"checkpoint: no file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"checkpoint: {path} cannot be read safely; if it is a foreign one, 'convert' makes one that can"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"checkpoint: {path} holds a {type(content).__name__}, want named tensors")
    return content


def _summary(names: Any) -> str:
    """Name whole blocks where blocks are concerned."""
    listed = sorted({".".join(name.split(".")[:6]) for name in names})
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


class _QuietRunner(Runner):
    """MMEngine's runner; what it logs goes to its file, and to the terminal only if it is a warning."""

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build the logger."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.ERROR)
        return logger

    def dump_config(self) -> None:
        """Write nothing; the run's folder has the configuration already."""


def _build_runner(cfg: Config, folder: Path, *loops: str) -> Runner:
    """Build the runner, and the loops that it would build when it starts: their data may not be as wanted."""
    cfg.work_dir = str(folder)
    with _input_errors():
        runner = _QuietRunner.from_cfg(cfg)
        for loop in loops:
            getattr(runner, loop)
        return runner


@contextmanager
def _input_errors() -> Iterator[None]:
    """Show what a configuration's parts object to as bad input, and no warnings about how they are built."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise InputError(str(error.args[0] if error.args else error)) from error


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
