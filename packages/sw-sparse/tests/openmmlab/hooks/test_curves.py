import json

import pytest
from PIL import Image

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_sparse.openmmlab.hooks.curves import draw_curves, read_log


def log(folder, sitting, *records):
    path = folder / sitting / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(map(json.dumps, records)) + "\n")


def test_a_resumed_run_has_one_curve(tmp_path):
    log(tmp_path, "1", {"step": 1, "loss": 3.0, "lr": 0.1}, {"step": 2, "loss": 2.0, "lr": 0.1})
    log(tmp_path, "2", {"step": 2, "loss": 1.5, "lr": 0.1}, {"step": 2, "mIoU": 40.0})
    training, validation = read_log(tmp_path)
    assert [(step, record["loss"]) for step, record in training.items()] == [(1, 3.0), (2, 1.5)]
    assert validation == {2: {"step": 2, "mIoU": 40.0}}
    draw_curves(tmp_path)
    assert Image.open(tmp_path / "curves.png").size[0] > 1000


def test_nothing_is_drawn_before_there_is_a_log(tmp_path):
    draw_curves(tmp_path)
    assert not list(tmp_path.iterdir())
