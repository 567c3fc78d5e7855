"""Looking at image files: what they are, what is wrong with them, and nothing twice."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sw_models.errors import InputError
from sw_models.images import image_facts, look_at_images
from sw_models.sources import read_image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def save(path, size=(20, 40), orientation=1):
    image = Image.fromarray(np.zeros((*size, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def claim(path, width, height):
    """Write a PNG file of a few bytes that says that it is large."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_pixels_that_models_see(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a.{suffix}", orientation=orientation)
    facts = image_facts(path)
    assert facts.orientation == orientation
    assert read_image(path).shape == (facts.height, facts.width, 3)


def test_tiff_files_that_would_have_to_be_turned_are_refused(tmp_path):
    assert image_facts(save(tmp_path / "a.tif")).size == "40x20"
    assert "orientation 6, want an upright one" in image_facts(save(tmp_path / "b.tif", orientation=6)).problem


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])
def test_small_files_of_many_pixels_are_refused_without_decoding(tmp_path, side):
    path = claim(tmp_path / "a.png", side, side)
    assert image_facts(path).problem
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image(path)


def test_half_a_file_is_found(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "truncated" in image_facts(path).problem


def test_what_was_found_is_remembered_until_the_file_changes(tmp_path):
    paths = [save(tmp_path / f"{i}.png") for i in range(3)]
    looked = []
    for _ in range(2):
        found = look_at_images(paths, progress=lambda done, total: looked.append((done, total)))
        assert [facts.size for facts in found.values()] == ["40x20"] * 3
    assert looked == [(1, 3), (2, 3), (3, 3)]
    save(paths[1], size=(30, 50))
    assert look_at_images(paths)[paths[1]].size == "50x30"
