"""What is inspected: files, folders, patterns and videos, in a sure order, under names that differ."""

import numpy as np
import pytest

from sw_anomaly.data.sources import find_sources, images_in
from sw_models.errors import InputError

from conftest import save

GREY = np.full((16, 24, 3), 77, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.png", "deep/a.bmp", ".hidden/c.png", "results/old.png"):
        save(tmp_path / "parts" / name, GREY)
    (tmp_path / "parts" / "notes.txt").write_text("no image")
    return tmp_path / "parts"


def names(sources):
    return [str(source.name) for source in sources]


def test_a_folder_is_searched_to_the_bottom_but_not_where_results_go(folder):
    assert names(find_sources([str(folder)], folder / "results")) == ["a", "b", "deep/a"]
    assert names(find_sources([str(folder)], folder / "elsewhere")) == ["a", "b", "deep/a", "results/old"]


def test_a_pattern_matches_files_only(folder):
    assert names(find_sources([str(folder / "*.png")], folder / "out")) == ["a", "b"]
    assert names(find_sources([str(folder / "**" / "a.*")], folder / "out")) == ["a", "a.bmp"]


def test_names_differ_whatever_is_given(folder):
    given = [str(folder / "a.png")] * 4 + [str(folder / "deep" / "a.bmp")]
    assert names(find_sources(given, folder / "out")) == ["a", "a.png", "a.png-2", "a.png-3", "a.bmp"]


def test_an_image_file_is_one_image(folder):
    (image,) = images_in(find_sources([str(folder / "a.png")], folder / "out")[0])
    assert image.frame is None
    np.testing.assert_array_equal(image.load(), GREY)


@pytest.mark.parametrize(
    ("given", "message"),
    [("nothing.png", "nothing.png is not there"), ("none*.png", "no file matches"), ("empty", "holds no images")],
)
def test_what_is_not_there_is_said(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        find_sources([given], tmp_path / "out")


def test_without_its_library_a_video_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("sw_anomaly.data.sources.find_spec", lambda name: None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"install sw-anomaly\[video\]"):
        find_sources([str(tmp_path / "clip.mp4")], tmp_path / "out")


def write_video(path, frames):
    av = pytest.importorskip("av", reason="the extra sw-anomaly[video] is not installed")
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())


def test_a_video_is_its_frames_in_order(tmp_path):
    levels = [20, 90, 160, 230]
    write_video(tmp_path / "clip.mp4", [np.full((32, 48, 3), level, dtype=np.uint8) for level in levels])
    seen = list(images_in(find_sources([str(tmp_path / "clip.mp4")], tmp_path / "out")[0]))
    assert [picture.frame for picture in seen] == [0, 1, 2, 3]
    assert [str(picture.name) for picture in seen] == [f"clip/00000{number}" for number in range(4)]
    for picture, level in zip(seen, levels, strict=True):
        image = picture.load()
        assert image.shape == (32, 48, 3)
        assert image.mean() == pytest.approx(level, abs=6)


def test_a_file_that_is_no_video_is_named(tmp_path):
    pytest.importorskip("av", reason="the extra sw-anomaly[video] is not installed")
    (tmp_path / "clip.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"clip\.mp4 does not decode as a video"):
        list(images_in(find_sources([str(tmp_path / "clip.mp4")], tmp_path / "out")[0]))
