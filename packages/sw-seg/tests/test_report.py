import re
from pathlib import Path

import numpy as np
import pytest

from sw_seg import registration  # noqa: F401
from sw_seg.report import _confusion, _overlaps

from conftest import options


def test_confusions_are_counted_where_something_is_known():
    truth = np.array([[0, 0, 1], [255, 1, 1]], dtype=np.uint8)
    found = np.array([[0, 1, 1], [0, 1, 0]])
    counts = _confusion(truth, found, 3)
    assert counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert _overlaps(counts)[:2].tolist() == pytest.approx([1 / 3, 2 / 4])
    assert np.isnan(_overlaps(counts)[2])


def test_a_training_leaves_one_page_with_everything_inside(run, ade_folder):
    short = options("train_cfg.max_iters=1", "train_cfg.val_interval=1", "train_dataloader.batch_size=2")
    short += options("default_hooks.logger.interval=1")[-2:]
    status, made, error = run("train", "upernet_nano_shapes", "--data", ade_folder, *short, "--json")
    assert status == 0, error
    page = Path(made["report"]).read_text()
    for title in ("Curves", "Classes", "Confusions", "The worst images", "Data"):
        assert f"<h2>{title}</h2>" in page
    assert "class 2" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched
