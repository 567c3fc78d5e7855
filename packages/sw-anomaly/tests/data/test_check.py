"""Looking at every file first: what would make figures wrong is found and named, and nothing is read twice."""

import json
import os
import shutil

import numpy as np
import pytest

from sw_anomaly.data import check as module
from sw_anomaly.data.check import check_category, refuse
from sw_anomaly.data.layouts import read_category
from sw_models.errors import InputError

from conftest import save


@pytest.fixture
def look(tiny_root):
    return lambda **options: check_category(read_category(tiny_root, "disc"), **options)


def test_what_is_there_is_counted(look):
    found = look()
    assert (found.refused, found.noted) == ((), ())
    groups = [(group.part, group.kind, group.images, group.masks, group.sizes) for group in found.groups]
    assert groups == [
        ("train", "good", 6, 0, {"64x64": 6}),
        ("test", "good", 2, 0, {"64x64": 2}),
        ("test", "spot", 2, 2, {"64x64": 2}),
    ]
    assert found.groups[2].marked == pytest.approx(12 * 12 / 64**2)
    refuse(found)
    json.dumps(found.as_dict(), allow_nan=False)


def test_all_masks_of_another_size_are_named(look, tiny_root):
    for number in range(2):
        mask = np.full((32, 48), 255, dtype=np.uint8)
        save(tiny_root / "disc" / "ground_truth" / "spot" / f"00{number}_mask.png", mask)
    with pytest.raises(InputError, match=r"2 masks not of the size.*000_mask\.png is 48x32, its image 64x64, .*001_"):
        refuse(look())


def test_a_mask_in_which_nothing_is_marked_is_named(look, tiny_root):
    save(tiny_root / "disc" / "ground_truth" / "spot" / "001_mask.png", np.zeros((64, 64), dtype=np.uint8))
    with pytest.raises(InputError, match=r"1 mask of defective images in which nothing is marked: .*001_mask\.png"):
        refuse(look())


def test_all_test_images_that_training_would_see_are_named(look, tiny_root):
    disc = tiny_root / "disc"
    for number in range(2):
        shutil.copy(disc / "train" / "good" / f"00{number}.png", disc / "test" / "good" / f"9{number}.png")
    (refused,) = look().refused
    assert refused.startswith("2 test images that training would see, too: ")
    assert "90.png (as 000.png)" in refused
    assert "91.png (as 001.png)" in refused
    assert look(leaky=True).refused == ()


def test_an_image_that_is_said_to_be_good_and_defective_is_named(look, tiny_root):
    shutil.copy(tiny_root / "disc" / "test" / "spot" / "000.png", tiny_root / "disc" / "test" / "good" / "9.png")
    with pytest.raises(InputError, match=r"good/9\.png, .*spot/000\.png show the same, but are said to be good and d"):
        refuse(look())


def test_files_that_do_not_decode_are_all_named_also_if_their_headers_are_sound(look, tiny_root):
    paths = [tiny_root / "disc" / part for part in ("train/good/002.png", "ground_truth/spot/000_mask.png")]
    for path in paths:
        path.write_bytes(path.read_bytes()[:80])
    (refused,) = look().refused
    assert refused.startswith("2 files cannot be read: ")
    assert all(str(path) in refused for path in paths)


def test_what_may_be_meant_so_is_noted_and_not_refused(look, tiny_root):
    disc = tiny_root / "disc"
    shutil.copy(disc / "train" / "good" / "000.png", disc / "train" / "good" / "9.png")
    save(disc / "ground_truth" / "spot" / "000_mask.png", np.full((64, 64), 255, dtype=np.uint8))
    shutil.rmtree(disc / "test" / "good")
    found = look()
    assert found.refused == ()
    assert [note.split(":")[0] for note in found.noted] == [
        "1 training image shown by another file, too",
        "1 mask with more than half of the image marked",
        "no good test images",
    ]


def test_only_files_that_changed_are_decoded_again(look, tiny_root, monkeypatch):
    decoded = []

    def noting(load):
        def load_and_note(path, max_pixels):
            decoded.append(path)
            return load(path, max_pixels)

        return load_and_note

    monkeypatch.setattr(module, "load_image", noting(module.load_image))
    monkeypatch.setattr(module, "load_mask", noting(module.load_mask))
    first = look()
    assert len(decoded) == 12
    assert look() == first
    assert len(decoded) == 12
    path = tiny_root / "disc" / "test" / "good" / "000.png"
    save(path, np.zeros((64, 64, 3), dtype=np.uint8))
    os.utime(path, ns=(0, 0))
    look()
    assert decoded[12:] == [path]


def test_every_copy_is_named_however_many_there_are(look, tiny_root):
    disc = tiny_root / "disc"
    for number in range(20):
        shutil.copy(disc / "train" / "good" / "000.png", disc / "test" / "good" / f"copy{number:02}.png")
    (refused,) = look().refused
    assert all(f"copy{number:02}.png" in refused for number in range(20))
