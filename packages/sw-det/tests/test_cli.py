"""The whole way of a detector: trained, tested, used, on several processes, and what is said to bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from conftest import SMALL_RTMDET, annotations, options, write_coco

Run = Callable[..., tuple[int, Any, str]]


def test_from_training_to_pictures(run: Run, few: Path, tmp_path: Path) -> None:
    status, summary, _ = run("train", "mask_rcnn_nano_shapes", "--data", few, *options(), "--json")
    assert status == 0
    folder = Path(summary["folder"])
    assert {"config.yaml", "curves.png", "epoch_2.pth"} <= {path.name for path in folder.iterdir()}
    assert torch.load(folder / "epoch_2.pth", weights_only=True)["meta"]["dataset_meta"]["classes"]

    status, metrics, _ = run("test", folder, "--json")
    assert status == 0
    assert {"bbox/mAP", "bbox/mAP_50", "segm/mAP"} <= metrics.keys()
    assert metrics["bbox/mAP"] == pytest.approx(summary["best_score"])

    status, output, _ = run("predict", few / "val/0001.png", few / "val/0002.png", "--run", folder, "--json")
    assert status == 0
    assert Path(output["folder"], "predictions.json").is_file()
    with Image.open(output["images"][1]["picture"]) as picture:
        assert picture.size == (160, 160)


@pytest.mark.parametrize(
    ("name", "small"),
    [
        pytest.param("mask_rcnn_nano_shapes", options("train_cfg.max_epochs=1"), marks=pytest.mark.slow),
        ("rtmdet_nano", ["--cfg-options", *SMALL_RTMDET, "train_cfg.max_epochs=1"]),
    ],
)
def test_two_processes_train_one_model(tmp_path: Path, few: Path, name: str, small: list[str]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["sw_det.cli", "train", name, "--data", str(few), "--out", "both", *small]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "both/epoch_1.pth").is_file()
    (log,) = (tmp_path / "both").glob("*/*.log")
    assert "the current batch size is 4" in log.read_text()  # two images in each process


def zeros(path: str) -> dict[str, torch.Tensor]:
    """Return where the backbone's small kernels, of a checkpoint, are switched off."""
    state = torch.load(path, weights_only=True)["state_dict"]
    return {k: v.flatten(1).eq(0).all(1) for k, v in state.items() if k.startswith("backbone.") and ".weights." in k}


def test_a_detector_trains_sparsely_in_half_precision_and_stays_sparse(run: Run, few: Path) -> None:
    short = ("--data", few, *options("train_cfg.max_epochs=1"), "--amp", "--grad-checkpointing", "--json")
    _, made, _ = run("train", "mask_rcnn_nano_shapes", *short, "--sparse", "0.5", "--out", "made")
    off = zeros(made["checkpoint"])
    share = sum(int(o.sum()) for o in off.values()) / sum(o.numel() for o in off.values())
    assert share == pytest.approx(0.5, abs=0.1)
    start = ("--checkpoint", made["checkpoint"], "--sparse", "keep")
    _, kept, _ = run("train", "mask_rcnn_nano_shapes", *short, *start, "--out", "kept")
    before, after = (torch.load(r["checkpoint"], weights_only=True)["state_dict"] for r in (made, kept))
    for key, mask in zeros(kept["checkpoint"]).items():
        assert torch.equal(mask, off[key]), key
        assert not torch.equal(before[key], after[key]), key  # the others did train


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "mask_rcn_nano"), "want one of mask_rcnn_nano"),
        (("train", "--data", "absent"), "--data: no folder absent"),
        (("train", "--data", "."), "want one file annotations/instances_train"),
        (("test", "--checkpoint", "absent.pth"), "no config.yaml beside"),
        (("predict", "absent.jpg"), "is not there"),
        (("export", "x.onnx", "--run", "rtmdet_ins_nano"), "no checkpoint in"),
    ],
)
def test_bad_input_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_bad_annotations_are_one_line(run: Run, tmp_path: Path) -> None:
    content = annotations()
    content["annotations"][1]["category_id"] = 9
    status, _, err = run("train", "--data", write_coco(tmp_path / "coco", train=content))
    assert status == 2
    assert "annotation 2" in err
    assert "category 9" in err
    assert err.count("\n") == 1


def test_a_checkpoint_of_another_detector_names_what_differs(run: Run, tmp_path: Path) -> None:
    torch.save({"state_dict": {"neck.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    status, _, err = run("predict", Path(__file__), "--run", "mask_rcnn_nano", "--checkpoint", "other.pth")
    assert status == 2
    assert "of another model: it lacks" in err
    assert err.count("\n") == 1


def test_complexity_is_printed(run: Run) -> None:
    status, counts, _ = run("flops", "mask_rcnn_nano", "--size", "64", "64", "--json")
    assert status == 0
    *parts, total = counts["parts"]
    assert [row["part"] for row in parts] == ["backbone", "neck", "rpn_head", "bbox_head 1", "mask_head 1"]
    assert total["MACs"] == sum(row["MACs"] for row in parts)


@pytest.mark.slow
def test_a_printed_configuration_can_be_trained_by_mmdetection(run: Run, tmp_path: Path, few: Path) -> None:
    """Let a user's own file inherit from a shipped one, and MMDetection's own way of training read it."""
    status, path, _ = run("show-config", "mask_rcnn_nano_shapes", "--path")
    assert status == 0
    (tmp_path / "mine.py").write_text(
        f"_base_ = [{path.strip()!r}]\n"
        "custom_imports = dict(imports=['sw_det'], allow_failed_imports=False)\n"
        f"data = {str(few)!r}\n"
        "meta = dict(classes=('circle', 'square', 'triangle'))\n"
        "train_dataloader = dict(batch_size=2, dataset=dict(metainfo=meta, data_root=data,\n"
        "    ann_file='annotations/instances_train.json', data_prefix=dict(img='train/')))\n"
        "val_dataloader = val_evaluator = val_cfg = None\n"
        "test_dataloader = test_evaluator = test_cfg = None\n"
        "model = dict(roi_head=dict(bbox_head=dict(num_classes=3), mask_head=dict(num_classes=3)))\n"
        "train_cfg = dict(max_epochs=1)\n"
        "work_dir = 'work'\n"
    )
    program = (
        "from mmengine.config import Config; from mmengine.runner import Runner;"
        "Runner.from_cfg(Config.fromfile('mine.py')).train()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work/epoch_1.pth").is_file()


@pytest.mark.slow
def test_mmdetections_own_test_program_runs(run: Run, tmp_path: Path, few: Path) -> None:
    """It wants MMCV's compiled module before it reads the configuration."""
    import mmdet

    program = Path(mmdet.__file__).parent / ".mim/tools/test.py"
    status, made, error = run(
        "train", "mask_rcnn_nano_shapes", "--data", few, *options("train_cfg.max_epochs=1"), "--json"
    )
    assert status == 0, error
    (tmp_path / "mine.py").write_text(run("show-config", made["folder"])[1])
    command = [sys.executable, "-m", "sw_det.mm", str(program), "mine.py", made["checkpoint"], "--work-dir", "tested"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bbox/mAP" in done.stdout + done.stderr


def test_what_is_no_program_is_refused_in_a_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "sw_det.mm", "absent.py"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "got absent.py, want a program of MMDetection's" in done.stderr


def test_nothing_is_printed_twice_where_nothing_is_found(run: Run, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data")
    command = ("train", "mask_rcnn_nano_shapes", "--data", data, *options("train_cfg.max_epochs=1"))
    status, _, error = run(*command, "--cfg-options", "model.test_cfg.rcnn.score_thr=1.0")
    assert status == 0, error
    assert "ERROR" not in error
    assert "empty" not in error


def test_nothing_of_segmentation_is_imported() -> None:
    program = (
        "import sys, mmdet, sw_det; print('mmdet' in sys.modules, *(m in sys.modules for m in ('mmseg', 'sw_seg')))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["True", "False", "False"]


def test_help_waits_for_no_heavy_import() -> None:
    program = "import sys, sw_det.cli; print([m for m in ('torch', 'mmengine', 'mmdet', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
