"""Images are as large as their objects ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sw_det.dataset import adapt_to_data
from sw_det.sizes import suited_size
from sw_det.task import TASK
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.schedule import shorter_side, use_size

from conftest import annotations, write_coco


def content(width: int, height: int, objects: list[int], crowd: int = 0) -> dict[str, Any]:
    """Return a COCO file's content: an image with square objects of these sides, and a crowd of tiny ones."""
    boxes = [(size, 0) for size in objects] + [(1, 1)] * crowd
    entries = [
        {"id": number, "image_id": 7, "category_id": 3 + number % 2 * 5, "bbox": [0, 0, size, size], "iscrowd": crowded}
        for number, (size, crowded) in enumerate(boxes, 1)
    ]
    image = {"id": 7, "file_name": "a.png", "width": width, "height": height}
    return annotations(images=[image], annotations=entries)


@pytest.mark.parametrize(
    ("side", "objects", "wanted"),
    [
        (1000, [40] * 100, 416),  # 16 pixels of 40 in an image of 400, which is no multiple of 32
        (1000, [20] * 20 + [40] * 80, 416),  # a fifth may be smaller
        (1000, [20] * 30 + [40] * 70, 640),  # ... but not three tenths
        (1000, [80] * 100, None),  # seen well at 320
        (500, [10] * 100, 512),  # no larger than images are
        (4000, [10] * 100, 640),  # that is what tiles are for
        (1000, [], None),
    ],
)
def test_three_quarters_of_the_objects_are_large_enough(side: int, objects: list[int], wanted: int | None) -> None:
    assert suited_size(content(2 * side, side, objects, crowd=len(objects)), 16, own=320) == wanted


def folder_with(tmp_path: Path, *left_out: list[int]) -> Path:
    """Write a data folder with an image of 640x480, small objects, and boxes that cannot be used."""
    small = content(640, 480, [12] * 8)
    small["annotations"] += [{**small["annotations"][0], "id": 100 + i, "bbox": box} for i, box in enumerate(left_out)]
    data = write_coco(tmp_path / "coco", small, content(640, 480, [12] * 8))
    for split in ("train", "val"):
        Image.fromarray(np.zeros((480, 640, 3), dtype=np.uint8)).save(data / split / "a.png")
    return data


def test_a_configuration_says_what_suits_its_data_and_is_content_with_it(tmp_path: Path) -> None:
    cfg = load_config(TASK, "rtmdet_nano")
    data = folder_with(tmp_path, *[[900, 4, 200, 200]] * 8, [4, 4, 0, 8])
    report = adapt_to_data(cfg, data)
    assert cfg.suited_size == 480
    assert "train: many objects have less than 16 pixels in images of 320; 480 suit them" in report.notes
    use_size(cfg, 480)
    assert shorter_side(cfg) == 480
    adapt_to_data(cfg, data)
    assert cfg.suited_size is None


def test_published_recipes_keep_their_sizes(tmp_path: Path) -> None:
    cfg = load_config(TASK, "cascade_rcnn_tiny")
    adapt_to_data(cfg, folder_with(tmp_path))
    assert "suited_size" not in cfg
