"""What takes minutes: learning the sample, learning photographs by heart, and a large detector's whole way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import options

Run = Callable[..., tuple[int, Any, str]]
pytestmark = pytest.mark.slow


def test_the_smallest_detector_learns_the_sample(run: Run) -> None:
    _, summary, _ = run("train", "--json")
    _, metrics, _ = run("test", summary["folder"], "--json")
    assert metrics["bbox/mAP_50"] > 0.5
    assert metrics["segm/mAP_50"] > 0.5


def test_a_killed_run_goes_on(tmp_path: Path, few: Path) -> None:
    command = [sys.executable, "-m", "sw_det.cli", "train", "mask_rcnn_nano_shapes", "--data", str(few)]
    command += ["--out", "killed", *options("train_cfg.max_epochs=20", "train_cfg.val_interval=20")]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed").glob("epoch_*.pth")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "killed/epoch_20.pth").exists()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (resumed,) = sorted((tmp_path / "killed").glob("*/*.log"))[1:]
    assert "resumed epoch:" in resumed.read_text()
    assert (tmp_path / "killed/epoch_20.pth").is_file()


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
