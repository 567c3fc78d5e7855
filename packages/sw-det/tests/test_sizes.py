"""Images are as large as their objects ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sw_det.sizes import suited_size
from sw_det.task import TASK
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.schedule import shorter_side, use_size

from conftest import write_coco


def folder_with(tmp_path: Path, side: int, objects: list[int], crowd: int = 0) -> Path:
    """Write a data folder that says of its first image that it is ``side`` pixels high and wide, and holds squares."""
    data = write_coco(tmp_path / "coco")
    file = data / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image.update(width=side, height=side)
    image, category = content["images"][0]["id"], content["categories"][0]["id"]
    content["annotations"] = [
        {"id": number, "image_id": image, "category_id": category, "bbox": [0, 0, size, size], "iscrowd": int(not size)}
        for number, size in enumerate([*objects, *[0] * crowd], 1)
    ]
    file.write_text(json.dumps(content))
    return file


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
def test_three_quarters_of_the_objects_are_large_enough(
    tmp_path: Path, side: int, objects: list[int], wanted: int | None
) -> None:
    cfg = load_config(TASK, "rtmdet_nano")
    cfg.train_dataloader.dataset.ann_file = str(folder_with(tmp_path, side, objects, crowd=len(objects)))
    assert suited_size(cfg) == wanted
    if wanted:
        use_size(cfg, wanted)
        assert shorter_side(cfg) == wanted
        assert suited_size(cfg) is None


def test_published_recipes_keep_their_sizes(tmp_path: Path) -> None:
    cfg = load_config(TASK, "cascade_rcnn_tiny")
    cfg.train_dataloader.dataset.ann_file = str(folder_with(tmp_path, 2000, [8] * 100))
    assert suited_size(cfg) is None
