"""Folders of runs as version 0.1.0 wrote them: their configuration is assignments, and names hooks."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data/run-0.1.0"
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def old(tmp_path: Path, few: Path) -> Path:
    """A run that was broken off after the first of two epochs; its weights are zeros."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.py").write_text((DATA / "config.py.txt").read_text().replace("DATA_ROOT", str(few)))
    (folder / "epoch_1.pth").write_bytes(lzma.decompress((DATA / "epoch_1.pth.xz").read_bytes()))
    return folder


def test_an_old_run_is_tested(run: Run, old: Path) -> None:
    status, metrics, _ = run("test", old, "--json")
    assert (status, metrics["bbox/mAP"]) == (0, 0)


def test_an_old_run_goes_on(run: Run, old: Path, few: Path) -> None:
    from conftest import options

    arguments = ("train", "mask_rcnn_nano_shapes", "--data", few, *options(), "--out", old, "--json")
    status, summary, error = run(*arguments)
    assert (status, summary and summary["iterations"]) == (0, 4), error
    assert (old / "epoch_2.pth").is_file()


def test_the_program_that_a_config_py_may_be_is_not_run(run: Run, old: Path) -> None:
    with (old / "config.py").open("a") as file:
        file.write("open('executed', 'w').close()\n")
    status, _, error = run("test", "--checkpoint", old / "epoch_1.pth")
    assert status == 2
    assert "cannot be read as data" in error
    assert not (old.parent / "executed").exists()
