from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sw_models.errors import InputError
from sw_models.sources import find_sources, read_image


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/.hidden").mkdir()
    for name in ("b.png", "a.JPG", "deep/a.png", ".hidden/c.png"):
        Image.new("RGB", (4, 3), (9, 8, 7)).save(tmp_path / "in" / name)
    (tmp_path / "in/._b.png").write_bytes(b"what a Mac leaves")
    (tmp_path / "in/notes.txt").touch()
    return tmp_path / "in"


def names(*given, **kwargs):
    return [str(source.name) for source in find_sources([str(one) for one in given], **kwargs)]


def test_folders_are_searched_to_the_bottom_and_hidden_files_are_no_images(folder):
    assert names(folder) == ["a", "b", "deep/a"]
    assert names(folder, leave_out=folder / "deep") == ["a", "b"]


def test_names_differ(folder):
    assert names(folder / "b.png", folder / "b.png", folder / "deep/a.png") == ["b", "b.png", "a"]


def test_patterns_are_expanded(folder):
    assert names(folder / "*.png") == ["b"]
    assert sorted(names(f"{folder}/**/*.png")) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [("absent.png", "is not there"), ("absent/*.png", "no file matches"), (".", "holds no images")],
)
def test_what_is_not_there_is_named(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        find_sources([given])


def test_images_are_upright_and_rgb(tmp_path):
    pytest.importorskip("cv2")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the left
    Image.new("RGB", (40, 20), (200, 100, 0)).save(tmp_path / "phone.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "phone.png")[0, 0], (200, 100, 0))
    Image.new("RGB", (40, 20), (200, 100, 0)).save(tmp_path / "phone.jpg", exif=exif)
    assert read_image(tmp_path / "phone.jpg").shape == (40, 20, 3)
    Image.new("L", (5, 4), 7).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == np.full((4, 5, 3), 7)).all()


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_what_cannot_be_decoded_is_named(tmp_path, content):
    pytest.importorskip("cv2")
    Path(tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
        read_image(tmp_path / "a.png")
