"""Configurations: found by name or in a file, adapted to data and to what the user says."""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sw_models.errors import InputError
from sw_sparse.openmmlab.task import Task

SYNTHETIC = "SYNTHETIC"  # what a configuration says for data_root where it trains on the sample


def list_configs(task: Task) -> dict[str, Path]:
    """Return the shipped configurations by name."""
    return {path.stem: path for path in sorted(task.configs.glob("*.py")) if not path.stem.startswith("_")}


def find_config(task: Task, config: str) -> Path:
    """Return the file of a configuration: a shipped one by its name, a file, or the one in a run's folder.

    Raises:
        InputError: there is none; similar names are suggested.
    """
    shipped = list_configs(task)
    if config in shipped:
        return shipped[config]
    path = Path(config)
    if (path / "config.py").is_file():
        return path / "config.py"
    if path.is_file():
        return path
    near = difflib.get_close_matches(config, shipped, n=3, cutoff=0.4)
    raise InputError(f"config: no file and no shipped one is called {config}; want one of {', '.join(near or shipped)}")


def load_config(task: Task, config: str, options: Sequence[str] = (), data: Path | None = None) -> Any:
    """Return a configuration, adapted to a data folder, with ``key=value`` options merged in last.

    Raises:
        InputError: the configuration, the data or an option is not as wanted.
    """
    path = find_config(task, config)
    register(task)
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(path, format_python_code=False)
    except Exception as error:  # whatever running somebody's file may raise
        raise InputError(f"config: {path} cannot be read ({error})") from error
    if "model" not in cfg:
        raise InputError(f"config: {path} has no model, want a configuration of {task.command}")
    if data is not None:
        use_data(task, cfg, data)
    cfg.merge_from_dict(_parsed(options, cfg))
    return cfg


def use_data(task: Task, cfg: Any, folder: Path) -> None:
    """Let a configuration read a data folder."""
    if not folder.is_dir():
        raise InputError(f"--data: no folder {folder}")
    cfg.data_root = str(folder.resolve())
    task.adapt_to_data(cfg, folder.resolve())


def register(task: Task) -> None:
    """Put the task's classes into OpenMMLab's registries."""
    importlib.import_module(f"{task.package}.registration")


def _parsed(options: Sequence[str], cfg: Any) -> dict[str, Any]:
    """Read ``key=value`` pairs as MMEngine's own programs do."""
    from mmengine.config import DictAction

    for option in options:
        key, equals, _ = option.partition("=")
        if not equals:
            raise InputError(f"--cfg-options: got {option}, want key=value")
        first = key.partition(".")[0]
        if first not in cfg:
            near = difflib.get_close_matches(first, cfg, n=3, cutoff=0.5)
            raise InputError(f"--cfg-options: the configuration has no {first}" + (f", but {near[0]}" if near else ""))
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    try:
        return parser.parse_args(["--cfg-options", *options]).cfg_options if options else {}
    except (RecursionError, SyntaxError, ValueError, AssertionError) as error:  # MMEngine knows no dictionaries here
        raise InputError(f"--cfg-options: cannot read {' '.join(options)}, want numbers, names or lists") from error
