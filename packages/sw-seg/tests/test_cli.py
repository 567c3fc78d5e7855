"""The whole way of a segmenter: trained, tested, used, on several processes, sparsely."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import options

SHORT = ("train_cfg.max_iters=4", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2")


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_from_training_to_pictures(run, ade_folder):
    status, summary, _ = run("train", "upernet_nano_shapes", "--data", ade_folder, *options(*SHORT), "--json")
    assert status == 0
    folder = Path(summary["folder"])
    assert {"config.yaml", "curves.png", "iter_4.pth"} <= {path.name for path in folder.iterdir()}

    status, metrics, _ = run("test", folder, "--json")
    assert status == 0
    assert metrics["mIoU"] == pytest.approx(summary["best_score"])
    assert {"mAcc", "aAcc", "IoU/class 1", "Acc/class 2"} <= metrics.keys()

    status, output, _ = run("predict", ade_folder / "images" / "validation", "--run", folder, "--json")
    assert status == 0
    first = output["images"][0]
    labels = np.asarray(Image.open(first["labels"]))
    assert labels.shape == (48, 64)
    assert set(np.unique(labels)) <= {1, 2}  # numbered as in the data, where 0 is no class
    width, height = Image.open(first["overlay"]).size
    assert width > 64  # the legend
    assert height >= 48
    assert sum(first["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert first["shares"] == {f"class {i}": pytest.approx((labels == i).mean(), abs=1e-3) for i in np.unique(labels)}


def test_slides_and_augmented_tests(run, ade_folder):
    arguments = ("--data", ade_folder, *options("train_cfg.max_iters=1", "train_cfg.val_interval=1"))
    _, summary, _ = run("train", "upernet_nano_shapes", *arguments, "--json")
    slide = ("mode=slide", "crop_size=(32, 32)", "stride=(24, 24)")
    sliding = [part for option in slide for part in ("--cfg-options", f"model.test_cfg.{option}")]
    whole, slid, augmented = (run("test", summary["folder"], *way, "--json")[1] for way in ((), sliding, ["--tta"]))
    assert whole.keys() == slid.keys() == augmented.keys()
    assert whole != slid


def test_two_processes_train_one_model(tmp_path, ade_folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["sw_seg.cli", "train", "upernet_nano_shapes", "--data", str(ade_folder), "--out", "both"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options(*SHORT)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "both" / "iter_4.pth")
    (log,) = (tmp_path / "both").glob("*/*.log")
    assert "the current batch size is 16" in log.read_text()  # the learning rate follows: 8 images in each process
    assert "Scaling the original LR by 2.0" in log.read_text()


def test_zeros_of_a_sparse_checkpoint_stay(run, ade_folder, tmp_path):
    data = ("--data", ade_folder, *options(*SHORT))
    _, dense, _ = run("train", "upernet_nano_shapes", *data, "--out", "dense", "--json")
    state = weights(dense["checkpoint"])
    generator = torch.Generator().manual_seed(0)
    pruned = {}
    for key, value in state.items():
        if key.startswith("backbone.backbone.") and value.ndim == 4 and value.numel() > 64:
            pruned[key] = torch.rand(value.shape, generator=generator) < 0.4
            value[pruned[key]] = 0
    torch.save({"state_dict": state}, tmp_path / "sparse.pth")
    start = ("train", "upernet_nano_shapes", *data, "--checkpoint", tmp_path / "sparse.pth", "--json")
    _, fine, _ = run(*start, "--sparse", "keep", "--out", "fine")
    trained = weights(Path(fine["folder"]) / "iter_4.pth")
    assert len(pruned) > 5
    for key, off in pruned.items():
        assert not trained[key][off].any(), key
        assert not torch.equal(trained[key], state[key]), key  # the others did train
    _, free, _ = run(*start, "--out", "free")  # not told to keep them, a run does not
    trained = weights(Path(free["folder"]) / "iter_4.pth")
    assert any(trained[key][off].any() for key, off in pruned.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "upernet_tinny"), "want one of upernet_tiny"),
        (("train", "--data", "."), "has no images/ and annotations/"),
        (("test", "--checkpoint", "absent.pth"), "no config.yaml beside"),
    ],
)
def test_bad_input_is_one_line(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_checkpoint_of_another_depth_names_the_blocks(run, ade_folder, tmp_path):
    import timm

    torch.save(timm.create_model("shiftwise_pico", depths=(1, 1, 2, 1), dims=(4, 8, 16, 32)).state_dict(), "c.pth")
    status, _, err = run("train", "--data", ade_folder, "upernet_nano_shapes", "--checkpoint", "c.pth", *options())
    assert status == 2
    assert "stages.2.blocks.1" in err.splitlines()[-1]  # below what was found in the data


def test_nothing_of_detection_is_imported():
    from sw_seg import registration  # noqa: F401

    assert not {"mmdet", "sw_det"} & sys.modules.keys()


def test_help_waits_for_no_heavy_import():
    program = "import sys, sw_seg.cli; print([m for m in ('torch', 'mmengine', 'mmseg', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
