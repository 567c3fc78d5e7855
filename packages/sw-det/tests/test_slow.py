"""What takes minutes: learning the sample, learning photographs by heart, seeing a large photograph."""

from __future__ import annotations

import json
import subprocess
import sys
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


def test_hundreds_of_masks_of_a_large_photograph_take_less_than_two_gigabytes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    masks, peak = map(int, done.stdout.split())
    assert masks > 200
    assert peak < 2 * 2**30


LARGE = """
import resource
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sw_det.predict import predict
from sw_det.task import TASK
from sw_models.sources import find_sources
from sw_sparse.openmmlab.checkpoint import load_model
from sw_sparse.openmmlab.config import load_config

Image.fromarray(np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), dtype=np.uint8)).save("large.png")
Path("seen").mkdir()
model = load_model(load_config(TASK, "mask_rcnn_nano"))  # as it is before training, it takes everything for something
(record,) = predict(model, find_sources(["large.png"]), Path("seen"), {"tile": 640, "threshold": 0.0127})
masks = [one for one in record["instances"] if one["segmentation"]]
print(len(masks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
