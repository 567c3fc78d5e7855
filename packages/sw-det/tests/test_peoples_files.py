"""What users report of detectors, tried at the terminal with files as people have them."""

from __future__ import annotations

import json
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import annotations, options, write_coco

Run = Callable[..., tuple[int, Any, str]]
SHORT = options("train_cfg.max_epochs=1")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def trained(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small detector that was trained for an epoch."""
    from sw_det.cli import app

    folder = tmp_path_factory.mktemp("runs") / "small"
    command = ["train", "mask_rcnn_nano_shapes", "--data", str(few), "--out", str(folder), *SHORT]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return folder


def train(run: Run, data: Path, *more: Any) -> tuple[int, Any, str]:
    return run("train", "mask_rcnn_nano_shapes", "--data", data, *SHORT, *more, "--json")


def sideways(path: Path, width: int = 48, height: int = 32) -> Path:
    """Save a picture of a width and height, upper right corner red, as a camera held sideways stores it."""
    stored = np.zeros((width, height, 3), dtype=np.uint8)
    stored[:8, :8] = (250, 0, 0)
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


def claim(path: Path, side: int) -> Path:
    """Write a PNG file of a few kilobytes that holds side x side black pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    line = b"\0" * (1 + side // 8)
    content = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))
    return path


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MB


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_line_2_photographs_held_sideways_are_predicted_upright(
    run: Run, trained: Path, tmp_path: Path, suffix: str
) -> None:
    photograph = sideways(tmp_path / f"phone.{suffix}")
    status, seen, error = run("predict", photograph, "--run", trained, "--json")
    assert status == 0, error
    picture = np.asarray(Image.open(seen["images"][0]["picture"]))
    assert picture.shape == (32, 48, 3)
    (entry,) = json.loads(Path(seen["folder"], "predictions.json").read_text())["images"]
    assert (entry["width"], entry["height"]) == (48, 32)


@pytest.mark.parametrize("suffix", [pytest.param("jpg", marks=pytest.mark.slow), "tif"])
def test_line_2_and_trained_upright(run: Run, tmp_path: Path, suffix: str) -> None:
    images = [{"id": 7, "file_name": f"a.{suffix}", "width": 48, "height": 32}]
    data = write_coco(tmp_path / "data", annotations(images=images), annotations(images=images))
    for split in ("train", "val"):
        sideways(data / split / f"a.{suffix}")
    status, _, error = train(run, data)
    assert status == 0, error


def test_line_3_a_small_file_of_many_pixels_costs_no_memory(run: Run, trained: Path, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data")
    bomb = claim(data / "train/a.png", 13_000)
    before = peak()
    status, _, error = train(run, data)
    assert (status, error.count("\n")) == (2, 1)
    assert "a.png" in error
    status, _, error = run("predict", bomb, "--run", trained)
    assert status == 3
    assert "a.png" in error
    assert peak() - before < 300


@pytest.mark.parametrize(
    "change",
    [
        {"segmentation": [[4, 4, 20, 4]]},
        {"bbox": None},
        {"bbox": "4 4 16 8"},
        {"bbox": [4, 4, float("nan"), 8]},
        {"bbox": [4, 4, -16, 8]},
        {"image_id": "7"},
        {"segmentation": {"size": [60000, 60000], "counts": "0"}},
    ],
)
def test_line_4_malformed_annotations_are_named_with_their_id(run: Run, tmp_path: Path, change: dict[str, Any]) -> None:
    content = annotations()
    content["annotations"][1].update(change)
    status, _, error = train(run, write_coco(tmp_path / "data", content))
    assert (status, error.count("\n")) == (2, 1)
    assert "annotation 2" in error


def test_line_4_a_file_that_leaves_the_folder_is_refused(run: Run, tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "../val/a.png", "width": 48, "height": 32}]
    status, _, error = train(run, write_coco(tmp_path / "data", annotations(images=images)))
    assert (status, error.count("\n")) == (2, 1)
    assert "leaves the folder" in error


def test_line_5_areas_of_0_do_not_drop_objects(run: Run, tmp_path: Path) -> None:
    content = annotations()
    for annotation in content["annotations"]:
        annotation["area"] = 0
    status, made, error = train(run, write_coco(tmp_path / "data", content, content))
    assert status == 0, error
    assert "2 annotations had no area" in error
    (log,) = Path(made["folder"]).glob("*/vis_data/scalars.json")
    assert json.loads(log.read_text().splitlines()[-1])["bbox/mAP"] >= 0  # of no objects it is not defined


def test_line_5_data_without_anything_to_learn_are_refused(run: Run, tmp_path: Path) -> None:
    content = annotations()
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    status, _, error = train(run, write_coco(tmp_path / "data", content))
    assert (status, error.count("\n")) == (2, 1)
    assert "no object of screw to learn from: 1 annotations, 1 because it is a crowd" in error


@pytest.mark.parametrize(("width", "height"), [(49, 32), (32, 48)])
def test_line_6_sizes_are_compared_with_the_images(run: Run, tmp_path: Path, width: int, height: int) -> None:
    images = [{"id": 7, "file_name": "a.png", "width": width, "height": height}]
    status, _, error = train(run, write_coco(tmp_path / "data", annotations(images=images)))
    assert (status, error.count("\n")) == (2, 1)
    assert f"a.png is 48x32, annotated as {width}x{height}" in error


def test_line_7_an_undecodable_picture_is_found_before_training(run: Run, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data")
    (data / "val/a.png").write_bytes((data / "val/a.png").read_bytes()[:60])
    status, _, error = train(run, data)
    assert (status, error.count("\n")) == (2, 1)
    assert "a.png" in error


def test_lines_7_and_12_validation_may_lack_objects_and_json_is_strict(run: Run, tmp_path: Path) -> None:
    from sw_det.cli import app

    categories = [{"id": 3, "name": "screw", "supercategory": "x"}, {"id": 8, "name": "nut"}]
    data = write_coco(tmp_path / "data", val=annotations(annotations=[], categories=categories))
    result = CliRunner().invoke(app, ["train", "mask_rcnn_nano_shapes", "--data", str(data), *SHORT, "--json"])
    assert result.exit_code == 0, result.output
    folder = json.loads(result.stdout, parse_constant=pytest.fail)["folder"]
    result = CliRunner().invoke(app, ["test", folder, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout, parse_constant=pytest.fail)["bbox/mAP"] is None


def test_line_8_images_beside_their_annotations(run: Run, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data")
    for split in ("train", "val"):
        (data / f"annotations/instances_{split}.json").rename(data / split / "_annotations.coco.json")
    status, _, error = train(run, data)
    assert status == 0, error
    assert "annotations in train/_annotations.coco.json, images in train/" in " ".join(error.split())


@pytest.mark.slow
def test_line_21_killed_and_stopped_runs_end_as_unbroken_ones(few: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sw_det.cli", "train", "mask_rcnn_nano_shapes", "--data", str(few)]
    command += options("train_cfg.max_epochs=4", "train_dataloader.num_workers=1")

    def start(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*command, "--out", name], cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    def finish(name: str) -> None:
        process = start(name)
        _, error = process.communicate(timeout=900)
        assert process.returncode == 0, error

    finish("whole")
    for name, number, status in (("killed", signal.SIGKILL, -9), ("stopped", signal.SIGTERM, 143)):
        process = start(name)
        while not (tmp_path / name / "epoch_1.pth").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=900)
        assert process.returncode == status
        assert ("give the same command again" in error) == (number == signal.SIGTERM)
        assert not (tmp_path / name / "epoch_4.pth").exists()
        finish(name)
        whole, broken = (
            torch.load(tmp_path / run / "epoch_4.pth", weights_only=True)["state_dict"] for run in ("whole", name)
        )
        assert all(torch.equal(whole[key], broken[key]) for key in whole), name
