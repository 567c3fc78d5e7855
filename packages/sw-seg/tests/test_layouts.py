"""Data folders in the layouts that people have: linked, divided, and left alone."""

import numpy as np
import pytest
from PIL import Image

from sw_models.errors import InputError
from sw_seg import registration  # noqa: F401
from sw_seg.check import check
from sw_seg.folder import read_folder
from sw_seg.layouts import prepare

from conftest import options

COUNT = 10


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def labels(number):
    """Return a map of 0 and 1, in every fifth of 2, too."""
    found = np.zeros((32, 48), dtype=np.uint8)
    found[:, 24:] = 1
    if number % 5 == 0:
        found[:4] = 2
    return found


def draw(image, label, number):
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((32, 48, 3), number, dtype=np.uint8)).save(image)
    Image.fromarray(labels(number)).save(label)


def voc(folder):
    for number in range(COUNT):
        draw(folder / f"JPEGImages/{number}.jpg", folder / f"SegmentationClass/{number}.png", number)
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{number}\n" for number in range(7)))
    (lists / "val.txt").write_text("".join(f"{number}\n" for number in range(7, COUNT)))
    (lists / "trainval.txt").write_text("".join(f"{number}\n" for number in range(COUNT)))
    return folder


def segnet(folder):
    for number in range(COUNT):
        split = "train" if number < 7 else "val"
        draw(folder / split / f"{number}.png", folder / f"{split}annot/{number}.png", number)
    return folder


def by_split(folder):
    for number in range(COUNT):
        split = "train" if number < 7 else "valid"
        draw(folder / split / f"images/{number}.jpg", folder / split / f"masks/{number}.png", number)
    return folder


@pytest.mark.parametrize("layout", [voc, segnet, by_split])
def test_every_layout_holds_the_same(tmp_path, layout):
    data = layout(tmp_path / "theirs")
    before = sorted(data.rglob("*"))
    folder = read_folder(prepare(data, tmp_path / "ours", {}))
    assert folder.values == (0, 1, 2)
    for split, numbers in (("training", range(7)), ("validation", range(7, COUNT))):
        pairs = folder.pairs(split)
        assert [int(image.stem) for image, _ in pairs] == list(numbers)
        for (image, label), number in zip(pairs, numbers, strict=True):
            assert np.asarray(Image.open(image)).mean() == pytest.approx(number, abs=1)
            assert (np.asarray(Image.open(label)) == labels(number)).all()
    assert sorted(data.rglob("*")) == before  # the user's folder is left alone


def flat(folder):
    for number in range(COUNT):
        draw(folder / f"images/{number}.jpg", folder / f"masks/{number}.png", number)
    return folder


def test_splits_are_made_where_there_are_none(tmp_path):
    data = flat(tmp_path / "theirs")
    found = [read_folder(prepare(data, tmp_path / name, {})) for name in ("one", "two")]
    names = [[image.name for image, _ in folder.pairs("validation")] for folder in found]
    assert names[0] == names[1]
    assert len(names[0]) == 2
    assert len({"0.jpg", "5.jpg"} & set(names[0])) == 1  # of the two with the rare class
    assert "2 of 10 images are for validation, stratified by class with seed 0" in found[0].report.notes[0]


def test_classes_and_colors_go_along(tmp_path):
    data = flat(tmp_path / "theirs")
    (data / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nsky:0,0,0::\nroad:9,9,9::\ntree:1,2,3::\n")
    folder = read_folder(prepare(data, tmp_path / "ours", {}))
    assert folder.classes == ("sky", "road", "tree")


def test_a_third_split_is_read_and_tested(run, tmp_path):
    data = by_split(tmp_path / "theirs")
    for number in range(2):
        draw(data / f"test/images/{number}.jpg", data / f"test/masks/{number}.png", number)
    short = options("train_cfg.max_iters=1", "train_cfg.val_interval=1", "train_dataloader.batch_size=2")
    status, made, error = run("train", "upernet_nano_shapes", "--data", data, *short, "--json")
    assert status == 0, error
    status, metrics, error = run("test", made["folder"], "--split", "test", "--json")
    assert status == 0, error
    assert "IoU/class 2" in metrics
    status, _, error = run("test", made["folder"], "--split", "other")
    assert (status, "--split: got other, the data have train, val, test" in error) == (2, True)


def test_values_that_are_no_class_are_stated(tmp_path):
    """As CamVid's void, which is 11 beside 0 to 10."""
    data = flat(tmp_path / "theirs")
    folder = read_folder(prepare(data, tmp_path / "ours", {}), {"ignore": [2]})
    assert (folder.classes, folder.values) == (("class 0", "class 1"), (0, 1))
    (data / "classes.txt").write_text("sky\nvoid\nroad\n")
    named = read_folder(prepare(data, tmp_path / "named", {}), {"ignore": 1})
    assert (named.classes, named.values) == (("sky", "road"), (0, 2))
    with pytest.raises(InputError, match="data_options.ignore: got 300, want numbers from 0 to 255"):
        read_folder(tmp_path / "named", {"ignore": 300})
    with pytest.raises(InputError, match="which leaves nothing"):
        read_folder(tmp_path / "named", {"ignore": [0, 1, 2]})


def test_other_folders_are_refused_and_nothing_is_made(tmp_path):
    (tmp_path / "theirs").mkdir()
    with pytest.raises(InputError, match="has no images/ and annotations/ or labels/"):
        prepare(tmp_path / "theirs", tmp_path / "ours", {})
    assert not (tmp_path / "ours").exists()
    data = flat(tmp_path / "flat")
    with pytest.raises(InputError, match="convert-data makes a folder of it"):
        prepare(data, None, {})
    prepare(data, tmp_path / "ours", {})
    with pytest.raises(InputError, match="holds the data of"):
        prepare(voc(tmp_path / "voc"), tmp_path / "ours", {})
    (data / "masks/3.png").unlink()
    with pytest.raises(InputError, match=r"3\.jpg has no label map"):
        prepare(data, tmp_path / "again", {})


def test_check_draws_and_convert_data_writes_any_layout(run, tmp_path):
    data = voc(tmp_path / "theirs")
    report, sheet = check(data, {})
    assert not report.refused
    assert len(sheet().getcolors(1 << 24)) > 3
    status, found, error = run("convert-data", data, tmp_path / "ours", "--copy", "--json")
    assert status == 0, error
    assert (found["images/training"], found["images/validation"]) == (7, 3)
    assert not any(path.is_symlink() for path in (tmp_path / "ours").rglob("*"))
    assert prepare(tmp_path / "ours", None, {}) == tmp_path / "ours"
