"""Folders of runs as version 0.1.0 wrote them: their configuration is assignments, and names hooks."""

import lzma
from pathlib import Path

import pytest

from sw_sparse.openmmlab.sample_shapes import draw, label_map

from conftest import options, write_pair

DATA = Path(__file__).parent / "data/run-0.1.0"


@pytest.fixture
def data(tmp_path):
    for split, count in (("training", 4), ("validation", 2)):
        for i in range(count):
            write_pair(tmp_path / "data", "labels", split, f"{i}", label_map(draw(i)[1]))
    (tmp_path / "data/classes.txt").write_text("background\ncircle\nsquare\ntriangle\n")
    return tmp_path / "data"


@pytest.fixture
def old(tmp_path, data):
    """A run that was broken off after two of four iterations; its weights are zeros."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.py").write_text((DATA / "config.py.txt").read_text().replace("DATA_ROOT", str(data)))
    (folder / "iter_2.pth").write_bytes(lzma.decompress((DATA / "iter_2.pth.xz").read_bytes()))
    return folder


def test_an_old_run_is_tested(run, old):
    status, metrics, _ = run("test", old, "--json")
    assert status == 0
    assert metrics["mIoU"] >= 0


def test_an_old_run_goes_on(run, old, data):
    short = ("train_cfg.max_iters=4", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2")
    arguments = ("train", "upernet_nano_shapes", "--data", data, *options(*short), "--out", old, "--json")
    status, summary, error = run(*arguments)
    assert (status, summary and summary["iterations"]) == (0, 4), error
    assert (old / "iter_4.pth").is_file()
