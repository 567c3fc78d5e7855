import numpy as np
import pytest
from PIL import Image

from sw_models.errors import InputError
from sw_seg import registration  # noqa: F401
from sw_seg.folder import read_folder

from conftest import write_pair


def test_ade20ks_layout(ade_folder):
    folder = read_folder(ade_folder)
    assert folder.zero_is_ignored
    assert folder.classes == ("class 1", "class 2")
    assert [image.name for image, _ in folder.pairs("training")] == ["0.jpg", "1.jpg", "2.jpg"]
    assert all(image.stem == label.stem for image, label in folder.pairs("validation"))


def test_any_images_with_a_list_of_classes(tmp_path):
    for split in ("train", "val"):
        write_pair(tmp_path, "labels", split, "a", np.array([[0, 1], [2, 255]]))
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\n\n")
    folder = read_folder(tmp_path)
    assert not folder.zero_is_ignored
    assert folder.classes == ("sky", "road", "tree")
    assert len(folder.pairs("training")) == len(folder.pairs("validation")) == 1


def test_ade20k_itself_has_its_classes(ade_folder):
    (ade_folder / "objectInfo150.txt").write_text("")
    assert len(read_folder(ade_folder).classes) == 150


def spoil(folder, what):
    label = folder / "annotations" / "validation" / "0.png"
    image = folder / "images" / "validation" / "0.jpg"
    if what == "class":
        Image.fromarray(np.full((48, 64), 3, dtype=np.uint8)).save(label)
    elif what == "colours":
        Image.new("RGB", (64, 48)).save(label)
    elif what == "size":
        Image.new("L", (8, 8)).save(label)
    elif what == "no map":
        label.unlink()
    elif what == "broken":
        image.write_bytes(b"nothing")
    elif what == "empty":
        for path in image.parent.iterdir():
            path.unlink()
    elif what == "layout":
        (folder / "annotations").rename(folder / "elsewhere")
    elif what == "twice":
        (folder / "classes.txt").write_text("road\nroad\n")
    elif what == "void":
        for path in folder.rglob("*.png"):
            Image.new("L", (64, 48)).save(path)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("class", r"validation/0\.png has the class 3, but there are 2 classes, 1 to 2"),
        ("colours", r"1 of 2 label maps cannot be used: .*validation/0\.png is a grey picture in three channels"),
        ("size", r"1 of 2 label maps .*validation/0\.png has 8x8 pixels, its image 64x48"),
        ("no map", r"validation/0\.jpg has no label map"),
        ("broken", r"1 of 2 files cannot be read: .*validation/0\.jpg \(cannot identify"),
        ("empty", r"there are no images in .*validation"),
        ("layout", r"has no images/ and annotations/ or labels/"),
        ("twice", r"classes\.txt has no line, or one twice"),
        ("void", r"have no class at all"),
    ],
)
def test_what_is_wrong_is_named(ade_folder, what, message):
    spoil(ade_folder, what)
    with pytest.raises(InputError, match=message):
        read_folder(ade_folder)
