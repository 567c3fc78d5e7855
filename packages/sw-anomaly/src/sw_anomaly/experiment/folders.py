"""Folders of runs: ``<out>/<category>/001``, ``002``, ...; each is written by one command and then left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sw_anomaly.config import CHECKPOINT, TrainingConfig, is_unfinished, read_config
from sw_models.files import make_folder


def list_runs(folder: Path) -> list[Path]:
    """Return the numbered folders in ``folder``, newest first."""
    runs = [path for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]
    return sorted(runs, key=lambda path: int(path.name), reverse=True)


def new_run(folder: Path) -> Path:
    """Create the next numbered folder, also where other processes do the same.

    Args:
        folder: Where it is made; made itself if it is not there.

    Returns:
        The new folder, one above all that bear a number.

    Raises:
        InputError: If no folder can be made there.
    """
    make_folder("--out", folder)
    while True:
        last = max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0)
        run = folder / f"{last + 1:03}"
        with suppress(FileExistsError):  # another process was faster
            run.mkdir()
            return run


def find_unfinished(folder: Path, config: TrainingConfig) -> Path | None:
    """Return the newest run in ``folder`` whose training under this very configuration was interrupted."""
    return next((run for run in list_runs(folder) if is_unfinished(run) and read_config(run) == config), None)


def find_checkpoint(folder: Path, training_images: str, asked: Mapping[str, Any]) -> Path | None:
    """Return the newest finished checkpoint in ``folder`` for these training images whose configuration is as asked."""
    wanted = {"training_images": training_images, **asked}
    for run in list_runs(folder):
        config = read_config(run)
        if config and (run / CHECKPOINT).is_file() and not is_unfinished(run):
            has = asdict(config)
            if all(has[name] == value for name, value in wanted.items()):
                return run / CHECKPOINT
    return None
