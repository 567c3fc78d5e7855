"""Configurations: found by name or in a file, adapted to data and to what the user says."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sw_models.errors import InputError
from sw_sparse.openmmlab.run_config import find_run_config, read_data, read_run_config
from sw_sparse.openmmlab.task import Task

if TYPE_CHECKING:
    from sw_sparse.openmmlab.data_report import DataReport

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
    if path.is_file():
        return path
    if found := find_run_config(path):
        return found
    near = difflib.get_close_matches(config, shipped, n=3, cutoff=0.4)
    raise InputError(f"config: no file and no shipped one is called {config}; want one of {', '.join(near or shipped)}")


def run_folder(name: str) -> Path:
    """Return the folder of a run that is named by it, by the configuration in it, or by that it was started with."""
    path = Path(name)
    if find_run_config(path):
        return path
    if path.is_file() and find_run_config(path.parent) == path:
        return path.parent
    return Path("runs") / path.stem


def find_run(task: Task, run: str | None, checkpoint: Path | None) -> tuple[str, Path]:
    """Return the configuration and the folder of a run; a run's own copy of a configuration comes first.

    Args:
        task: what the run is of.
        run: a run's folder, a configuration's name or a file; None for the folder of the checkpoint, or the sample's.
        checkpoint: the weights that will be used, if they are not the run's best.

    Raises:
        InputError: there is none.
    """
    if run is None and checkpoint is not None:
        if find_run_config(checkpoint.parent):
            return str(checkpoint.parent), checkpoint.parent
        raise InputError(f"--checkpoint: there is no config.yaml beside {checkpoint}; name its configuration as well")
    name = run or task.sample_config
    folder = run_folder(name)
    if Path(name).is_file():
        return name, folder
    if find_run_config(folder) and (checkpoint is None or folder == Path(name)):
        return str(folder), folder
    find_config(task, name)
    return name, folder


def load_config(
    task: Task, config: str, options: Sequence[str] = (), data: Path | None = None, into: Path | None = None
) -> Any:
    """Return a configuration, adapted to a data folder, with ``key=value`` options merged in last.

    A ``.py`` file that is named itself is run, as MMEngine does. What lies in a run's folder is read as data.

    Args:
        task: whose configuration it is.
        config: as for :func:`find_config`.
        options: ``key=value`` pairs, such as ``train_cfg.max_epochs=3``.
        data: a data folder.
        into: where the annotations of a data folder in another form are written.

    Returns:
        MMEngine's ``Config``.

    Raises:
        InputError: the configuration, the data or an option is not as wanted.
    """
    path = find_config(task, config)
    content = read_run_config(path) if Path(config).is_dir() else None
    register(task)
    from mmengine.config import Config

    from sw_sparse.openmmlab.config_options import parse_options
    from sw_sparse.openmmlab.data_report import print_report

    try:
        if content is None and path.suffix != ".py":
            content = read_data(path)
        cfg = Config(content) if content is not None else Config.fromfile(path, format_python_code=False)
        _import_modules(cfg)
    except InputError:
        raise
    except Exception as error:  # whatever running somebody's file may raise
        raise InputError(f"config: {path} cannot be read ({error})") from error
    if "model" not in cfg:
        raise InputError(f"config: {path} has no model, want a configuration of {task.command}")
    if data is not None:
        about_data = [option for option in options if option.startswith("data_options.")]
        cfg.merge_from_dict(parse_options(about_data, cfg))
        print_report(use_data(task, cfg, data, into), stderr=True)
    cfg.merge_from_dict(parse_options(options, cfg))
    return cfg


def use_data(task: Task, cfg: Any, data: Path, into: Path | None = None) -> DataReport:
    """Let a configuration read a data folder, and return what is in it."""
    if not data.is_dir():
        raise InputError(f"--data: no folder {data}")
    folder = task.prepare(data.resolve(), into.resolve() if into else None, cfg.get("data_options") or {})
    cfg.data_root = str(folder)
    return task.adapt_to_data(cfg, folder)


def data_options(options: Sequence[str]) -> dict[str, Any]:
    """Return what ``data_options.key=value`` pairs say, before there is a configuration that they belong to."""
    from sw_sparse.openmmlab.config_options import read_pairs

    prefix = "data_options."
    found = read_pairs([option.removeprefix(prefix) for option in options if option.startswith(prefix)])
    for name in ("max_pixels", "seed", "val_share"):
        if not isinstance(found.get(name, 0), int | float):
            raise InputError(f"data_options.{name}: got {found[name]!r}, want a number")
    return found


def register(task: Task) -> None:
    """Put the task's classes into OpenMMLab's registries."""
    importlib.import_module(f"{task.package}.registration")


def _import_modules(cfg: Any) -> None:
    """Import the modules that a configuration names for what they register."""
    from mmengine.utils import import_modules_from_strings

    if cfg.get("custom_imports"):
        import_modules_from_strings(**cfg.custom_imports)
