"""What takes long: learning the sample and photographs by heart, MMSegmentation's own training, a large photograph."""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_the_smallest_segmenter_learns_the_sample(run):
    _, summary, _ = run("train", "--json")
    _, metrics, _ = run("test", summary["folder"], "--json")
    assert metrics["mIoU"] > 70


def test_a_small_segmenter_learns_photographs_by_heart(run, photographs, tmp_path):
    """Take the first eight photographs; train and measure on the same."""
    data = tmp_path / "eight"
    for kind in ("images", "annotations"):
        for file in sorted((photographs / kind / "training").iterdir())[:8]:
            for split in ("training", "validation"):
                (data / kind / split).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, data / kind / split)
    if (photographs / "classes.txt").is_file():
        shutil.copy(photographs / "classes.txt", data)
    arguments = [part for option in BY_HEART for part in ("--cfg-options", option)]
    _, summary, _ = run("train", "upernet_nano", "--data", data, *arguments, "--json")
    _, metrics, _ = run("test", summary["folder"], "--json")
    assert metrics["mIoU"] > 70


BY_HEART = (
    "model.data_preprocessor.size=(192,192)",
    "model.test_cfg.crop_size=(192,192)",
    "model.test_cfg.stride=(128,128)",
    "train_dataloader.dataset.pipeline.2.scale=(1024,192)",
    "train_dataloader.dataset.pipeline.2.ratio_range=(1.0,1.0)",
    "train_dataloader.dataset.pipeline.3.crop_size=(192,192)",
    "val_dataloader.dataset.pipeline.1.scale=(1024,192)",
    "test_dataloader.dataset.pipeline.1.scale=(1024,192)",
    "optim_wrapper.optimizer.lr=3e-3",
    "train_cfg.max_iters=720",
    "train_cfg.val_interval=120",
    "param_scheduler.0.end=20",
    "param_scheduler.1.begin=20",
    "param_scheduler.1.end=720",
    "default_hooks.checkpoint.interval=120",
    "default_hooks.logger.interval=10",
)


def test_a_configuration_that_inherits_can_be_trained_by_mmsegmentation(run, ade_folder, tmp_path):
    """Let a user's own file inherit from a shipped one, and MMSegmentation's own way of training read it."""
    status, path, _ = run("show-config", "upernet_nano_shapes", "--path")
    assert status == 0
    (tmp_path / "mine.py").write_text(
        f"_base_ = [{path.strip()!r}]\n"
        "custom_imports = dict(imports=['sw_seg'], allow_failed_imports=False)\n"
        f"data = dict(type='SegFolderDataset', data_root={str(ade_folder)!r}, maps='annotations', split='training',\n"
        "    metainfo=dict(classes=['left', 'right'], palette=[[0, 0, 0], [255, 0, 0]]), _delete_=True)\n"
        "train_dataloader = dict(batch_size=2, dataset=dict(data, pipeline=_base_.train_pipeline))\n"
        "val_dataloader = val_evaluator = val_cfg = None\n"
        "test_dataloader = test_evaluator = test_cfg = None\n"
        "train_cfg = dict(max_iters=1)\n"
        "work_dir = 'work'\n"
        "default_hooks = dict(checkpoint=dict(interval=1))\n"
    )
    program = (
        "from mmengine.config import Config; from mmengine.runner import Runner;"
        "Runner.from_cfg(Config.fromfile('mine.py')).train()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work/iter_1.pth").is_file()


def test_a_large_photograph_takes_less_than_two_gigabytes(tmp_path):
    done = subprocess.run([sys.executable, "-c", LARGE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 2**30


LARGE = """
import resource
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sw_models.sources import find_sources
from sw_seg.predict import predict
from sw_seg.task import TASK
from sw_sparse.openmmlab.checkpoint import load_model
from sw_sparse.openmmlab.config import load_config

Image.fromarray(np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), dtype=np.uint8)).save("large.png")
Path("seen").mkdir()
model = load_model(load_config(TASK, "upernet_nano"))
(record,) = predict(model, find_sources(["large.png"]), Path("seen"), {"tile": 640})
assert "error" not in record, record
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
