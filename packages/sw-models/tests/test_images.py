"""Looking at image files: what they are, what is wrong with them, and nothing twice."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_alike_in_every_format(tmp_path, suffix, orientation):
    """Compare with Pillow's turning of a picture whose corners differ."""
    stored = np.zeros((20, 40, 3), dtype=np.uint8)
    stored[:8, :8], stored[:8, -8:], stored[-8:, :8] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif)
    image.info["exif"] = exif.tobytes()
    wanted = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    facts, found = image_facts(path), read_image(path)
    assert facts.orientation == orientation
    assert found.shape == wanted.shape == (facts.height, facts.width, 3)
    corners = np.ix_((2, -3), (2, -3))
    assert np.abs(found[corners] - wanted[corners]).max() < 60  # JPEG and WebP change colors a little


def test_tiff_files_of_16_bits_are_turned_too(tmp_path):
    stored = np.zeros((20, 40), dtype=np.uint16)
    stored[:8, :8] = 60_000
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    assert image_facts(tmp_path / "a.tif").size == "20x40"
    found = read_image(tmp_path / "a.tif")
    assert found.shape == (40, 20, 3)
    assert found[2, -3, 0] > 200 > 50 > found[2, 2, 0]


@pytest.mark.parametrize("side", [10_001, 13_000, 60_000])
def test_small_files_of_many_pixels_are_refused_without_decoding(tmp_path, side):
    path = claim(tmp_path / "a.png", side, side)
    assert image_facts(path).problem
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image(path)
    assert "want at most 100 pixels" in image_facts(save(tmp_path / "b.png"), 100).problem
    with pytest.raises(InputError, match="want at most 100 pixels"):
        read_image(tmp_path / "b.png", 100)


def test_half_a_file_is_found(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "truncated" in image_facts(path).problem


def test_a_changed_byte_that_leaves_a_png_decodable_is_found(tmp_path):
    path = save(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") - 3] ^= 1  # of the length that is announced
    path.write_bytes(content)
    assert Image.open(path).convert("RGB").size == (40, 20)
    assert "longer than the file" in image_facts(path).problem


def test_what_was_found_is_remembered_until_the_file_changes(tmp_path):
    paths = [save(tmp_path / f"{i}.png") for i in range(3)]
    looked = []
    for _ in range(2):
        found = look_at_images(paths, progress=lambda done, total: looked.append((done, total)))
        assert [facts.size for facts in found.values()] == ["40x20"] * 3
    assert looked == [(1, 3), (2, 3), (3, 3)]
    save(paths[1], size=(30, 50))
    assert look_at_images(paths)[paths[1]].size == "50x30"
