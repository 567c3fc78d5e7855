"""What users report of segmenters, tried at the terminal with files as people have them."""

import json
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import options, write_pair

SHORT = options("train_cfg.max_iters=2", "train_cfg.val_interval=2", "train_dataloader.batch_size=2")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def halves(first, second, size=(32, 48)):
    labels = np.full(size, first)
    labels[:, size[1] // 2 :] = second
    return labels


def write(folder, labels, maps="labels", names=()):
    for split in ("training", "validation"):
        write_pair(folder, maps, split, "a", np.array(labels))
    if names:
        (folder / "classes.txt").write_text("\n".join(names))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small segmenter that was trained for two iterations."""
    from sw_seg.cli import app

    data = write(tmp_path_factory.mktemp("data"), halves(0, 1), names=("left", "right"))
    folder = tmp_path_factory.mktemp("runs") / "small"
    command = ["train", "upernet_nano_shapes", "--data", str(data), "--out", str(folder), *SHORT]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return folder


def train(run, data, *more):
    return run("train", "upernet_nano_shapes", "--data", data, *SHORT, *more, "--json")


def sideways(path, width=48, height=32):
    """Save a picture of a width and height as a camera held sideways stores it."""
    image = Image.fromarray(np.zeros((width, height, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


def claim(path, side):
    """Write a PNG file of a few kilobytes that holds side x side black pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(b"\0" * (1 + side // 8)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_line_2_images_are_turned_and_labels_are_those_of_upright_ones(run, trained, tmp_path, suffix):
    photograph = sideways(tmp_path / f"phone.{suffix}")
    status, seen, error = run("predict", photograph, "--run", trained, "--json")
    assert status == 0, error
    assert Image.open(seen["images"][0]["labels"]).size == (48, 32)
    data = write(tmp_path / "data", halves(0, 1), names=("left", "right"))
    for split in ("training", "validation"):
        (data / "images" / split / "a.jpg").unlink()
        sideways(data / "images" / split / f"a.{suffix}")
    status, _, error = train(run, data)
    assert status == 0, error
    for split in ("training", "validation"):  # as the file is stored
        Image.fromarray(halves(0, 1, (48, 32)).astype(np.uint8)).save(data / "labels" / split / "a.png")
    status, _, error = train(run, data, "--out", "again")
    assert status == 2
    assert "not of the size of the image" in error


@pytest.mark.parametrize("place", ["images/training/a.png", "labels/training/a.png"])
def test_line_3_a_small_file_of_many_pixels_costs_no_memory(run, trained, tmp_path, place):
    data = write(tmp_path / "data", halves(0, 1), names=("left", "right"))
    (data / "images/training/a.jpg").unlink()
    Image.new("RGB", (48, 32)).save(data / "images/training/a.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = claim(data / place, 13_000)
    status, _, error = train(run, data)
    assert (status, error.count("\n")) == (2, 1)
    assert "a.png" in error
    status, _, error = run("predict", bomb, "--run", trained)
    assert status == 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_line_7_an_undecodable_picture_is_found_before_training(run, tmp_path):
    data = write(tmp_path / "data", halves(0, 1), names=("left", "right"))
    (data / "images/validation/a.jpg").write_bytes((data / "images/validation/a.jpg").read_bytes()[:700])
    status, _, error = train(run, data)
    assert (status, error.count("\n")) == (2, 1)
    assert "a.jpg" in error


@pytest.mark.parametrize("values", [(0, 1), (0, 255)])
def test_lines_9_and_10_one_class_has_a_background_is_trained_and_predicted(run, tmp_path, values):
    data = write(tmp_path / "data", halves(*values), "annotations")
    status, made, error = train(run, data)
    assert status == 0, error
    assert "two classes" in error
    status, metrics, _ = run("test", made["folder"], "--json")
    assert {"IoU/background", "IoU/foreground"} <= metrics.keys()
    status, seen, error = run("predict", data / "images/validation/a.jpg", "--run", made["folder"], "--json")
    assert status == 0, error
    assert set(seen["images"][0]["shares"]) <= {"background", "foreground"}


def test_line_11_colors_are_read_by_a_table_and_gaps_are_refused(run, tmp_path):
    data = write(tmp_path / "data", halves(0, 20))
    status, _, error = train(run, data)
    assert (status, error.count("\n")) == (2, 1)
    assert "want numbers without gaps" in error
    colors = np.where(halves(0, 1)[..., None] == 0, (64, 128, 64), (192, 0, 128)).astype(np.uint8)
    for file in data.glob("labels/*/a.png"):
        Image.fromarray(colors).save(file)
    status, _, error = train(run, data)
    assert (status, error.count("\n")) == (2, 1)
    assert "want a table of the classes' colors" in error
    (data / "label_colors.txt").write_text("64 128 64\tAnimal\n192 0 128\tArch way\n")
    status, made, error = train(run, data)
    assert status == 0, error
    _, metrics, _ = run("test", made["folder"], "--json")
    assert {"IoU/Animal", "IoU/Arch way"} <= metrics.keys()


def test_line_11_a_zero_that_may_be_a_class_is_never_shifted(run, tmp_path):
    labels = halves(0, 2)
    labels[:4] = 1
    data = write(tmp_path / "data", labels, "annotations", ("sky", "road", "tree"))
    status, _, error = train(run, data)
    assert (status, error.count("\n")) == (2, 1)
    assert "data_options.zero=class or ignore" in error
    status, made, error = train(run, data, "--cfg-options", "data_options.zero=class")
    assert status == 0, error
    _, metrics, _ = run("test", made["folder"], "--json")
    assert {"IoU/sky", "IoU/road", "IoU/tree"} <= metrics.keys()


def test_line_12_json_is_strict_where_nothing_is_defined(run, tmp_path):
    from sw_seg.cli import app

    data = write(tmp_path / "data", halves(0, 1), names=("left", "right"))
    Image.fromarray(np.full((32, 48), 255, dtype=np.uint8)).save(data / "labels/validation/a.png")
    result = CliRunner().invoke(
        app, ["train", "upernet_nano_shapes", "--data", str(data), "--out", str(tmp_path / "run"), *SHORT, "--json"]
    )
    assert result.exit_code == 0, result.output
    json.loads(result.stdout, parse_constant=pytest.fail)
    result = CliRunner().invoke(app, ["test", str(tmp_path / "run"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout, parse_constant=pytest.fail)["mIoU"] is None


@pytest.mark.slow
def test_line_21_killed_and_stopped_runs_end_as_unbroken_ones(tmp_path):
    data = tmp_path / "data"
    for split, count in (("training", 12), ("validation", 2)):
        for number in range(count):
            write_pair(data, "labels", split, f"{number}", halves(0, 1, (64, 64)))
    command = [sys.executable, "-m", "sw_seg.cli", "train", "upernet_nano_shapes", "--data", str(data)]
    command += options("train_cfg.max_iters=40", "train_cfg.val_interval=40", "default_hooks.checkpoint.interval=5")
    command += ["--cfg-options", "train_dataloader.num_workers=1"]

    def start(name):
        return subprocess.Popen([*command, "--out", name], cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    def finish(name):
        process = start(name)
        _, error = process.communicate(timeout=900)
        assert process.returncode == 0, error

    finish("whole")
    for name, number, status in (("killed", signal.SIGKILL, -9), ("stopped", signal.SIGTERM, 143)):
        process = start(name)
        while not (tmp_path / name / "iter_5.pth").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=900)
        assert process.returncode == status
        assert ("give the same command again" in error) == (number == signal.SIGTERM)
        assert not (tmp_path / name / "iter_40.pth").exists()
        finish(name)
        whole, broken = (
            torch.load(tmp_path / run / "iter_40.pth", weights_only=True)["state_dict"] for run in ("whole", name)
        )
        assert all(torch.equal(whole[key], broken[key]) for key in whole), name
