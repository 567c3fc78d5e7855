from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sw_det import registration  # noqa: F401 - first of all

# isort: split
from sw_det.report import _confusion, _Seen

from conftest import options

Run = Callable[..., tuple[int, Any, str]]


def seen(boxes: Any, scores: Any, labels: Any, truth: Any, truth_labels: Any) -> _Seen:
    return _Seen(
        {"id": 1, "file_name": "a"},
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(truth, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(truth_labels, dtype=torch.int64),
    )


def test_faults_are_what_is_missed_made_up_or_taken_for_something_else() -> None:
    square, far = [0, 0, 10, 10], [50, 50, 60, 60]
    one = seen([square, far, [100, 0, 110, 10]], [0.9, 0.8, 0.2], [0, 1, 0], [square, [80, 80, 90, 90]], [1, 0])
    assert one.match() == ([(0, 0)], [1], [1])  # what has a score of 0.2 does not count
    assert one.faults == 3
    assert _confusion([one], 2).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    perfect = seen([square], [0.9], [1], [square], [1])
    assert perfect.faults == 0
    assert seen([], [], [], [], []).faults == 0
    twice = seen([square, square], [0.9, 0.8], [1, 1], [square], [1])
    assert twice.match() == ([(0, 0)], [], [1])


def test_a_training_leaves_one_page_with_everything_inside(run: Run, few: Path) -> None:
    status, made, error = run(
        "train",
        "mask_rcnn_nano_shapes",
        "--data",
        few,
        *options("train_cfg.max_epochs=1", "default_hooks.logger.interval=1"),
        "--json",
    )
    assert status == 0, error
    page = Path(made["report"]).read_text()
    assert Path(made["report"]).parent == Path(made["folder"])
    for title in ("Curves", "Classes", "Confusions", "The worst images", "Data"):
        assert f"<h2>{title}</h2>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched
    for picture in re.findall(r"base64,([A-Za-z0-9+/=]+)", page):
        assert base64.b64decode(picture)[:2] in (b"\x89P", b"\xff\xd8")
    assert "circle" in page


def test_names_are_no_markup() -> None:
    from sw_sparse.openmmlab.report import Section, draw_matrix, page

    text = page(
        "<x>", [Section("<b>", ["<i>"], [{"<u>": "<s>"}], [("<em>", draw_matrix(np.eye(2, dtype=int), "ab", "ab"))])]
    )
    assert not re.search("<(x|b|i|u|s|em)>", text)
