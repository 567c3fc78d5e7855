"""What takes minutes: learning the sample, learning photographs by heart, seeing a large photograph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, Any, str]]
pytestmark = pytest.mark.slow


def test_the_smallest_detector_learns_the_sample(run: Run) -> None:
    _, summary, _ = run("train", "--json")
    _, metrics, _ = run("test", summary["folder"], "--json")
    assert metrics["bbox/mAP_50"] > 0.5
    assert metrics["segm/mAP_50"] > 0.5


def test_a_small_detector_learns_photographs_by_heart(run: Run, photographs: Path, tmp_path: Path) -> None:
    """Take the first eight photographs with a few objects of at least 32 pixels; train and measure on the same."""
    content = json.loads(next((photographs / "annotations").glob("instances_train*.json")).read_text())
    images = next(photographs.glob("train*"))
    objects: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    content["images"] = [i for i in content["images"] if clear(objects.get(i["id"], []))][:8]
    content["annotations"] = [a for image in content["images"] for a in objects[image["id"]]]
    data = tmp_path / "eight"
    (data / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (data / split).symlink_to(images)
        (data / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    arguments = [part for option in BY_HEART for part in ("--cfg-options", option)]
    _, summary, _ = run("train", "mask_rcnn_nano", "--data", data, *arguments, "--json")
    _, metrics, _ = run("test", summary["folder"], "--json")
    assert metrics["bbox/mAP_50"] > 0.8


BY_HEART = (
    "train_dataloader.dataset.pipeline.3.scales=[(512,320)]",
    "train_dataloader.batch_size=4",
    "auto_scale_lr.base_batch_size=4",
    "train_cfg.max_epochs=100",
    "train_cfg.val_interval=25",
    "param_scheduler.1.end=100",
    "default_hooks.checkpoint.interval=25",
    "default_hooks.logger.interval=10",
)


def clear(objects: list[Any]) -> bool:
    """Whether a photograph shows two to eight objects, none of them small and none a crowd."""
    return 2 <= len(objects) <= 8 and all(not a["iscrowd"] and min(a["bbox"][2:]) >= 32 for a in objects)
