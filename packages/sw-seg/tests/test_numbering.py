"""What label maps hold is recognized or refused; classes are never shifted, joined or left out without a word."""

import numpy as np
import pytest
from PIL import Image

from sw_models.errors import InputError
from sw_seg import registration  # noqa: F401
from sw_seg.check import check
from sw_seg.folder import read_folder
from sw_seg.labels import label_facts, read_table

from conftest import SMALL, options, write_pair


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write(folder, labels, maps="labels", names=()):
    """Write a data folder with the same label map in both splits."""
    for split in ("training", "validation"):
        for name in "ab":
            write_pair(folder, maps, split, name, np.array(labels))
    if names:
        (folder / "classes.txt").write_text("\n".join(names))
    return folder


def halves(first, second, size=(48, 64)):
    labels = np.full(size, first)
    labels[:, size[1] // 2 :] = second
    return labels


def dataset(folder, *more):
    from mmengine.registry import init_default_scope

    from sw_seg.task import TASK
    from sw_sparse.openmmlab.config import load_config

    cfg = load_config(TASK, "upernet_nano_shapes", (*SMALL, *more), folder)
    from mmseg.registry import DATASETS

    init_default_scope("mmseg")
    return cfg, DATASETS.build(cfg.val_dataloader.dataset)


def test_0_and_255_are_two_classes_and_that_is_said(tmp_path):
    folder = read_folder(write(tmp_path, halves(0, 255)))
    assert (folder.classes, folder.values) == (("background", "foreground"), (0, 255))
    assert "255 is the foreground" in folder.report.notes[0]
    assert [row["images"] for row in folder.report.rows] == [2, 2, 2, 2]


@pytest.mark.parametrize("maps", ["labels", "annotations", "masks"])
def test_0_and_255_are_trained_as_two_classes(tmp_path, maps):
    cfg, data = dataset(write(tmp_path, halves(0, 255), maps))
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 2
    labels = data[0]["data_samples"].gt_sem_seg.data[0].numpy()
    assert (labels == halves(0, 1)).all()


def test_that_255_is_no_class_can_be_stated(tmp_path):
    folder = write(tmp_path, halves(0, 255), names=("a", "b"))
    read = read_folder(folder, {"white": "ignore"})
    assert (read.classes, read.values) == (("a", "b"), (0, 1))
    with pytest.raises(InputError, match="data_options.white: got 'black', want one of auto, class, ignore"):
        read_folder(folder, {"white": "black"})


@pytest.mark.parametrize(("maps", "names"), [("annotations", ()), ("annotations", ("crack",)), ("labels", ("crack",))])
def test_a_single_class_has_a_background_beside_it(tmp_path, maps, names):
    folder = read_folder(write(tmp_path, halves(0, 1), maps, names))
    assert folder.classes == ("background", names[0] if names else "foreground")
    assert folder.values == (0, 1)


def test_numbers_with_gaps_are_refused(tmp_path):
    with pytest.raises(InputError, match="hold 0, 20, but no 1, 2, 3 and 16 more; want numbers without gaps"):
        read_folder(write(tmp_path, halves(0, 20)))


def test_a_zero_that_may_be_a_class_has_to_be_stated(tmp_path):
    labels = halves(0, 2)
    labels[:4] = 1
    folder = write(tmp_path, labels, "annotations", ("sky", "road", "tree"))
    with pytest.raises(InputError, match="hold 0 to 2, and classes.txt 3 names: either 0 is a class or"):
        read_folder(folder)
    assert read_folder(folder, {"zero": "class"}).values == (0, 1, 2)
    assert read_folder(folder, {"zero": "ignore"}).values == (1, 2, 3)


def colored(folder, table, name="label_colors.txt", first=(64, 128, 64), second=(192, 0, 128)):
    write(folder, halves(0, 1))
    pixels = np.where(halves(0, 1)[..., None] == 0, np.array(first), np.array(second)).astype(np.uint8)
    for file in folder.glob("labels/*/*.png"):
        Image.fromarray(pixels).save(file)
    if table:
        (folder / name).write_text(table)
    return folder


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("label_colors.txt", "64 128 64\tAnimal\n192 0 128\tArch way\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nAnimal:64,128,64::\nArch way:192,0,128::\n"),
        ("class_dict.csv", "name,r,g,b\nAnimal, 64, 128, 64\nArch way,192,0,128\n"),
    ],
)
def test_colors_are_classes_by_a_table(tmp_path, name, table):
    folder = colored(tmp_path, table, name)
    read = read_folder(folder)
    assert read.classes == ("Animal", "Arch way")
    assert read.palette == [(64, 128, 64), (192, 0, 128)]
    _, data = dataset(folder)
    assert (data[0]["data_samples"].gt_sem_seg.data[0].numpy() == halves(0, 1)).all()


def test_colors_without_a_table_or_not_in_it_are_refused(tmp_path):
    with pytest.raises(InputError, match="is colored; want a table of the classes' colors"):
        read_folder(colored(tmp_path, ""))
    (tmp_path / "label_colors.txt").write_text("64 128 64 Animal\n1 2 3 Road\n")
    with pytest.raises(InputError, match=r"has the color 192 0 128.*, but there are colors in the table"):
        read_folder(tmp_path)
    for line in ("64 128 Animal", "64 128 640 Animal", "1 2 3 a\n1 2 3 b", ""):
        (tmp_path / "label_colors.txt").write_text(line)
        with pytest.raises(InputError, match="label_colors.txt has"):
            read_table(tmp_path)


def turn(file, orientation):
    with Image.open(file) as image:
        exif = image.getexif()
        exif[0x0112] = orientation
        image.copy().save(file, exif=exif)


def test_labels_belong_to_upright_images(tmp_path):
    folder = write(tmp_path, halves(0, 1))
    for file in folder.glob("images/*/*.jpg"):
        turn(file, 6)
    with pytest.raises(InputError, match="not of the size of the image: .*64x48 pixels, its image 48x64 after turning"):
        read_folder(folder)
    for file in folder.glob("labels/*/*.png"):
        Image.fromarray(halves(0, 1, (64, 48)).astype(np.uint8)).save(file)
    _, data = dataset(folder)
    sample = data[0]
    assert sample["inputs"].shape[1:] == sample["data_samples"].gt_sem_seg.shape == (64, 48)
    assert "2 of 2 images are turned" in read_folder(folder).report.notes[0]


def test_every_file_that_cannot_be_read_is_named_before_training(tmp_path):
    folder = write(tmp_path, halves(0, 1))
    whole = (folder / "images/training/a.jpg").read_bytes()
    (folder / "images/training/a.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "labels/validation/b.png").write_bytes(b"nothing")
    with pytest.raises(
        InputError, match=r"1 of 2 files cannot be read: .*training/a\.jpg.*; 1 of 2 label maps .*b\.png"
    ):
        read_folder(folder)


def test_the_limit_of_pixels_is_stated_and_an_option(tmp_path):
    folder = write(tmp_path, halves(0, 1))
    with pytest.raises(InputError, match=r"got 64x48, want at most 3,000 pixels \(max_pixels\)"):
        read_folder(folder, {"max_pixels": 3000})
    assert "want at most 3,000" in label_facts(folder / "labels/training/a.png", 3000).problem


def test_a_contact_sheet_shows_labels_in_their_colors(tmp_path):
    report, draw = check(write(tmp_path, halves(0, 255)), {})
    assert report.refused == []
    colors = {color for _, color in draw().getcolors(1 << 24)}
    assert {(0, 0, 0), tuple(read_folder(tmp_path).palette[1])} <= colors


def test_check_at_the_terminal(run, tmp_path):
    folder = write(tmp_path / "data", halves(0, 255))
    status, found, _ = run("check", folder, "--json")
    assert status == 0
    assert found["found"][1] == {"split": "training", "class": "foreground", "in maps": "255", "images": 2, "of": 2}
    with Image.open(found["contact_sheet"]) as sheet:
        assert sheet.width > 1000
    (folder / "images/training/a.jpg").write_bytes(b"nothing")
    status, _, error = run("check", folder)
    assert status == 2
    assert "a.jpg" in error.splitlines()[-1]


def test_a_mask_trains_and_predicts(run, tmp_path):
    folder = write(tmp_path / "data", halves(0, 255, (32, 32)))
    short = options("train_cfg.max_iters=2", "train_cfg.val_interval=2", "train_dataloader.batch_size=2")
    status, made, error = run("train", "upernet_nano_shapes", "--data", folder, *short, "--json")
    assert status == 0, error
    assert "255 is the foreground" in error
    status, _, error = run("predict", folder / "images/validation/a.jpg", "--run", made["folder"], "--json")
    assert status == 0, error
