"""Folders of runs: `<out>/<category>/001`, `002`, ...; each is written by one command and then left as it is."""

from __future__ import annotations

from pathlib import Path

from sw_anomaly.detector import read_info
from sw_anomaly.errors import InputError
from sw_anomaly.training import CHECKPOINT, TrainingConfig, is_unfinished, read_config


def list_runs(folder: Path) -> list[Path]:
    """The numbered folders in `folder`, newest first."""
    runs = [path for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]
    return sorted(runs, key=lambda path: int(path.name), reverse=True)


def new_run(folder: Path) -> Path:
    """Create the next numbered folder in `folder`."""
    last = next((int(run.name) for run in list_runs(folder)), 0)
    run = folder / f"{last + 1:03}"
    run.mkdir(parents=True)
    return run


def find_unfinished(folder: Path, config: TrainingConfig) -> Path | None:
    """The newest run in `folder` whose training under this very configuration was interrupted."""
    return next((run for run in list_runs(folder) if is_unfinished(run) and read_config(run) == config), None)


def find_checkpoint(folder: Path, training_images: str, model: str | None) -> Path | None:
    """The newest finished checkpoint in `folder` for these training images, of `model` if one is named."""
    for run in list_runs(folder):
        path = run / CHECKPOINT
        if path.is_file() and not is_unfinished(run):
            try:
                info = read_info(path)
            except InputError:
                continue
            if info.training_images == training_images and model in (None, info.model):
                return path
    return None
