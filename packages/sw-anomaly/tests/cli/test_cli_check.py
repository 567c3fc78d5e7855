"""``sw-anomaly check`` from a user's side, and what ``train`` and ``eval`` make of it: refused before any fitting."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import refusal, save


def test_a_sound_data_set_is_told_and_drawn(run, tiny_root, tmp_path):
    shutil.copytree(tiny_root / "disc", tiny_root / "bolt [m8]")
    (tiny_root / "disc" / "test" / "spot" / "notes.txt").write_text("no image")
    shown = run("check", tiny_root)
    assert shown.exit_code == 0, shown.output
    assert "bolt [m8]" in shown.stdout
    assert ".txt is not read: " in shown.stdout
    with Image.open(tmp_path / "runs" / "disc" / "check.png") as sheet:
        pixels = np.array(sheet.convert("RGB"))
    assert (pixels == (0, 229, 160)).all(axis=2).sum() > 100  # the outlines of the defects
    result = json.loads(run("check", tiny_root, "--category", "disc", "--json").stdout)
    assert [group["images"] for group in result["categories"][0]["groups"]] == [6, 2, 2]
    assert result["refused"] == []


def test_all_that_is_wrong_in_all_categories_is_refused_in_one_line(run, tiny_root):
    shutil.copytree(tiny_root / "disc", tiny_root / "plate")
    save(tiny_root / "disc" / "ground_truth" / "spot" / "000_mask.png", np.zeros((9, 9), dtype=np.uint8))
    (tiny_root / "plate" / "test" / "good" / "000.png").write_bytes(b"")
    shown = run("check", tiny_root, "--json")
    assert len(json.loads(shown.stdout)["refused"]) == 2
    message = refusal(shown)
    assert "disc: 1 mask not of the size" in message
    assert "plate: 1 file cannot be read" in message


def damage_a_mask(disc):
    save(disc / "ground_truth" / "spot" / "001_mask.png", np.zeros((9, 9), dtype=np.uint8))


def copy_a_training_image(disc):
    shutil.copy(disc / "train" / "good" / "000.png", disc / "test" / "good" / "9.png")


def remove_the_masks(disc):
    shutil.rmtree(disc / "ground_truth")


def cut_an_image_short(disc):
    path = disc / "test" / "spot" / "001.png"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("spoil", [damage_a_mask, copy_a_training_image, remove_the_masks, cut_an_image_short])
@pytest.mark.parametrize("command", ["train", "eval"])
def test_what_can_be_refused_is_refused_before_a_run_begins(run, tiny_root, tmp_path, command, spoil):
    spoil(tiny_root / "disc")
    refusal(run(command, "--category", "disc", "--data", tiny_root))
    assert not list((tmp_path / "runs").glob("disc/0*"))


def test_a_data_set_without_any_category_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "got no category, want train/good, good or images" in refusal(run("check", "empty"))
    assert "is not a folder" in refusal(run("check", "nowhere"))
