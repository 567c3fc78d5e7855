import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sw_models.errors import InputError
from sw_models.sources import Source, find_sources, read_image, read_source


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/.hidden").mkdir()
    for name in ("b.png", "a.JPG", "deep/a.png", ".hidden/c.png"):
        Image.new("RGB", (4, 3), (9, 8, 7)).save(tmp_path / "in" / name)
    (tmp_path / "in/._b.png").write_bytes(b"what a Mac leaves")
    (tmp_path / "in/notes.txt").touch()
    (tmp_path / "in/loop.png").symlink_to("loop.png")
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
    [
        ("absent.png", "is not there"),
        ("absent/*.png", "no file matches"),
        (".", "holds no images"),
        ("pipe.png", "neither a file"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
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
    assert read_image(tmp_path / "phone.jpg").flags.writeable
    Image.new("L", (5, 4), 7).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == np.full((4, 5, 3), 7)).all()


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_what_cannot_be_decoded_is_named(tmp_path, content):
    pytest.importorskip("cv2")
    Path(tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
        read_image(tmp_path / "a.png")


def test_an_image_larger_than_allowed_is_not_decoded(tmp_path):
    pytest.importorskip("cv2")
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"got 40x30, want at most 1,000 pixels"):
        read_image(tmp_path / "a.png", 1000)
    assert read_image(tmp_path / "a.png", 1200).shape == (30, 40, 3)


def with_chunk(png, kind, data, before=b"IDAT"):
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    place = png.index(before) - 4
    return png[:place] + chunk + png[place:]


@pytest.mark.parametrize(
    ("kind", "data"), [(b"iCCP", b"x\0\0" + zlib.compress(bytes(90))), (b"cHRM", bytes(4)), (b"sBIT", bytes(4))]
)
def test_decoders_print_nothing_about_parts_that_do_not_matter(tmp_path, capfd, kind, data):
    pytest.importorskip("cv2")
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(with_chunk((tmp_path / "a.png").read_bytes(), kind, data))
    assert (read_image(tmp_path / "a.png") == (1, 2, 3)).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_png_is_turned_wherever_its_orientation_stands(tmp_path, before):
    pytest.importorskip("cv2")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    turned = with_chunk((tmp_path / "a.png").read_bytes(), b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"), before)
    (tmp_path / "a.png").write_bytes(turned)
    assert read_image(tmp_path / "a.png").shape == (5, 4, 3)


@pytest.mark.parametrize("place", ["length", "content"])
def test_a_png_with_a_damaged_part_is_refused_and_nothing_printed(tmp_path, capfd, place):
    pytest.importorskip("cv2")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[content.index(b"IDAT") + (-3 if place == "length" else 60)] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a part of it is (said to be longer than the file|damaged)"):
        read_image(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def checksums_mended(png):
    """Return a PNG file whose chunks are what their checksums say: damage that its writer did."""
    mended, place = png[:8], 8
    while place < len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4], "big")
        mended += png[place:end] + struct.pack(">I", zlib.crc32(png[place + 4 : end]))
        place = end + 4
    return mended


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_a_damaged_picture_is_read_or_refused_and_nothing_printed(tmp_path, capfd, suffix):
    pytest.importorskip("cv2")
    generator, file = np.random.default_rng(0), tmp_path / f"a.{suffix}"
    Image.fromarray(generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file)
    whole = file.read_bytes()
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        for at in generator.integers(60, len(whole) - 20, 3):
            content[at] ^= int(generator.integers(1, 256))
        content = content[: generator.integers(len(whole) // 2, 2 * len(whole))]
        file.write_bytes(checksums_mended(bytes(content)) if suffix == "png" else content)
        try:
            read_image(file)
        except InputError:
            refused += 1
    assert refused > 0
    assert capfd.readouterr() == ("", "")


LEVELS = [20, 90, 160, 230] * 30


@pytest.fixture
def video(tmp_path):
    """Frames of 48x32, each of one grey level."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (48, 32))
    for level in LEVELS:
        writer.write(np.full((32, 48, 3), level, dtype=np.uint8))
    writer.release()
    return path


def test_a_video_is_its_frames_in_order(video):
    frames = dict(read_source(Source(video, Path("clip"))))
    assert [str(name) for name in frames] == [f"clip/{number:06}" for number in range(len(LEVELS))]
    assert {frame.shape for frame in frames.values()} == {(32, 48, 3)}
    np.testing.assert_allclose([frame.mean() for frame in frames.values()], LEVELS, atol=6)


def test_frames_larger_than_allowed_are_not_decoded(video):
    with pytest.raises(InputError, match=r"clip\.mp4: got frames of 48x32, want at most 1,000 pixels"):
        list(read_source(Source(video, Path("clip")), 1000))


def test_a_file_that_is_no_video_is_named_in_one_line(tmp_path, capfd):
    pytest.importorskip("cv2")
    (tmp_path / "clip.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"clip\.mp4 cannot be read as a video"):
        list(read_source(Source(tmp_path / "clip.mp4", Path("clip"))))
    assert capfd.readouterr() == ("", "")


def test_a_video_that_is_damaged_gives_what_it_has_and_is_named(video, capfd):
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    video.write_bytes(content)
    images = read_source(Source(video, Path("clip")))
    assert next(images)[1].shape == (32, 48, 3)
    with pytest.raises(InputError, match=rf"got \d+ frames, want the {len(LEVELS)} that it announces"):
        list(images)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("order", [1, -1])
def test_no_frame_has_the_name_of_an_image(video, order):
    (video.parent / "clip").mkdir()
    for name in ("clip/000000.png", "clip/000001.jpg", "clip.png"):
        Image.new("L", (40, 30)).save(video.parent / name)
    below = str(video.parent)  # the video, and clip/000000 by its path below
    given = [below, str(video), str(video.parent / "clip.png")]
    sources = find_sources(given[::order])
    frames = [source.name / f"{number:06}" for source in sources if source.is_video for number in range(len(LEVELS))]
    every = frames + [source.name for source in sources if not source.is_video]
    assert len(every) == len(set(every)) == 2 * len(LEVELS) + 4
