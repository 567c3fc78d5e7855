"""Layouts as people have them: each becomes the same category, or is refused; none is guessed."""

import json
import shutil

import numpy as np
import pytest

from sw_anomaly.data.layouts import list_categories, read_category
from sw_anomaly.data.splits import Protocol, make_split
from sw_models.errors import InputError

from conftest import draw_part, refusal, save


def draw(folder, count, seed=0, suffix=".png"):
    rng = np.random.default_rng(seed)
    return [save(folder / f"{number:03}{suffix}", draw_part(rng)) for number in range(count)]


def draw_masks(folder, count, suffix=".png"):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:32, 28:40] = 1  # as VisA and others number their defects
    return [save(folder / f"{number:03}{suffix}", mask) for number in range(count)]


def counts(category):
    defective = [image for image in category.test if not image.is_good]
    masks = sum(image.mask_path is not None for image in defective)
    return len(category.train), len(category.test) - len(defective), len(defective), masks


def btad(root):
    draw(root / "01" / "train" / "ok", 4, 0, ".bmp")
    draw(root / "01" / "test" / "ok", 2, 1, ".bmp")
    draw(root / "01" / "test" / "ko", 3, 2, ".bmp")
    draw_masks(root / "01" / "ground_truth" / "ko", 3)
    return root, "01", "MVTec AD", (4, 2, 3, 3)


def good_and_bad(root):
    draw(root / "nut" / "good", 10, 0)
    draw(root / "nut" / "bad", 3, 1)
    return root, "nut", "good and others", (8, 2, 3, 0)


def good_and_types_with_masks(root):
    draw(root / "nut" / "Normal", 5, 0)
    draw(root / "nut" / "crack", 2, 1)
    draw(root / "nut" / "dent", 1, 2)
    draw_masks(root / "nut" / "masks" / "crack", 2)
    draw_masks(root / "nut" / "masks" / "dent", 1)
    return root, "nut", "good and others", (4, 1, 3, 3)


def good_alone(root):
    draw(root / "nut", 3)
    return root, "nut", "good images alone", (3, 0, 0, 0)


def the_folder_itself(root):
    draw(root / "nut" / "good", 5, 0)
    draw(root / "nut" / "bad", 1, 1)
    return root / "nut", "nut", "good and others", (4, 1, 1, 0)


def visa(root):
    rows = ["object,split,label,image,mask"]
    images = root / "nut" / "Data" / "Images"
    for path in draw(images / "Normal", 6, 0, ".JPG"):
        part = "train" if path.stem < "004" else "test"
        rows.append(f"nut,{part},normal,{path.relative_to(root)},")
    masks = draw_masks(root / "nut" / "Data" / "Masks" / "Anomaly", 2)
    for path, mask in zip(draw(images / "Anomaly", 2, 1, ".JPG"), masks, strict=True):
        rows.append(f"nut,test,anomaly,{path.relative_to(root)},{mask.relative_to(root)}")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    return root, "nut", "a table", (4, 2, 2, 2)


def table(root):
    rows = ["Filename;Label"]
    rows += [f"{path.relative_to(root)};0" for path in draw(root / "a", 5, 0)]
    rows += [f"{path.relative_to(root)};1" for path in draw(root / "b", 2, 1)]
    (root / "nut.csv").write_text("\ufeff" + "\n".join(rows))
    return root / "nut.csv", "nut", "a table", (4, 1, 2, 0)


LAYOUTS = [btad, good_and_bad, good_and_types_with_masks, good_alone, the_folder_itself, visa, table]


@pytest.mark.parametrize("lay_out", LAYOUTS)
def test_a_layout_is_recognized_and_read(tmp_path, lay_out):
    root, name, layout, expected = lay_out(tmp_path)
    assert list_categories(root) == [name]
    category = read_category(root, name, max_pixels=5000)
    assert category.layout == layout
    assert counts(category) == expected
    assert category.left_out == ()
    assert not set(category.train) & set(category.test)
    for image in (*category.train, *category.test):
        pixels, mask = image.load()
        assert image.max_pixels == 5000
        assert mask.any() == (image.mask_path is not None)
        assert mask.shape == pixels.shape[:2]


@pytest.mark.parametrize("lay_out", LAYOUTS)
def test_check_tells_which_it_is(run, tmp_path, lay_out):
    root, name, layout, _ = lay_out(tmp_path / "data")
    shown = run("check", root)
    assert shown.exit_code == 0, shown.output
    assert f"{name} ({layout})" in shown.stdout
    assert json.loads(run("check", root, "--json").stdout)["categories"][0]["layout"] == layout


def test_what_is_held_out_stays_when_images_come_in(tmp_path):
    good_and_bad(tmp_path)
    before = read_category(tmp_path, "nut")
    for number in range(100, 103):
        shutil.copy(tmp_path / "nut" / "good" / "000.png", tmp_path / "nut" / "good" / f"{number}.png")
    after = read_category(tmp_path, "nut")
    moved = {image.path for image in before.train} & {image.path for image in after.test}
    moved |= {image.path for image in before.test} & {image.path for image in after.train}
    assert len(moved) <= 3


def test_without_masks_images_are_measured_and_pixels_are_not(run, tmp_path):
    root, *_ = good_and_bad(tmp_path / "data")
    shown = run("eval", "--category", "nut", "--data", root, "--method", "bank", "--image-size", 64, "--json")
    assert shown.exit_code == 0, shown.output
    overall = json.loads(shown.stdout)["overall"]
    assert {name for name, value in overall.items() if value is None} == {
        name for name in overall if not name.startswith("image_")
    }
    assert "no masks" in shown.stderr


def test_training_on_defects_wants_their_masks(tmp_path):
    good_and_bad(tmp_path)
    with pytest.raises(InputError, match=r"--protocol: got supervised, which learns from masks"):
        make_split(read_category(tmp_path, "nut"), Protocol("supervised", defects=1), 0)


def test_masks_of_some_defects_only_are_refused(tmp_path):
    root, name, *_ = good_and_types_with_masks(tmp_path)
    (root / name / "masks" / "crack" / "001.png").unlink()
    with pytest.raises(InputError, match=r"1 defective image without a mask: .*crack/001\.png; want "):
        read_category(root, name)


def test_a_category_with_train_test_and_truth_is_not_taken_for_three(tiny_root):
    assert list_categories(tiny_root / "disc") == ["disc"]
    assert counts(read_category(tiny_root / "disc", "disc")) == (6, 2, 2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "got the columns none, want one path and one label"),
        ("path,split\na.png,test", "got the columns path, split, want one path and one label"),
        ("path,image,label\na.png,b.png,good", "want one path and one label"),
        ("path,label\na.png", "line 2: got another number of cells than of columns"),
        ("path,label\nnone.png,good", r"line 2: .*none\.png is not a file"),
        ("path,label\n000.png,", "line 2: an empty cell"),
        ("path,label,split\n000.png,good,validation", "line 2: got the part 'validation', want train or test"),
        ("path,label,mask\n000.png,bad,none.png", r"line 2: .*none\.png is not a file"),
        ("path,label\n000.png,good\n001.png,bad", "want 3, two to train on and one to test on"),
        ('path,label\n"000.png,good', "cannot be read as a CSV file"),
        ("path,label\n\0,good", "line 2|cannot be read as a CSV file"),
    ],
)
def test_a_table_that_is_not_clear_is_refused(tmp_path, content, message):
    draw(tmp_path, 2)
    (tmp_path / "nut.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_category(tmp_path / "nut.csv", "nut")


def test_a_category_that_is_not_in_the_table_is_named(run, tmp_path):
    root, *_ = visa(tmp_path / "data")
    assert "want one of: nut" in refusal(run("train", "--category", "bolt", "--data", root))


def test_defects_in_the_training_part_of_a_table_are_left_out(tmp_path):
    paths = draw(tmp_path, 4)
    labels = ("good", "good", "bad", "bad")
    parts = ("train", "train", "train", "test")
    rows = [f"{path.name},{label},{part}" for path, label, part in zip(paths, labels, parts, strict=True)]
    (tmp_path / "nut.csv").write_text("\n".join(["path,label,split", *rows]))
    category = read_category(tmp_path / "nut.csv", "nut")
    assert counts(category) == (2, 0, 1, 0)
    assert [one.path for one in category.left_out] == [paths[2]]
