"""Reading the layout: what is found, in which order, how masks are understood, and what is said when it is wrong."""

import numpy as np
import pytest
from PIL import Image

from sw_anomaly.data.images import load_image, load_mask
from sw_anomaly.data.layouts import list_categories, read_category
from sw_models.errors import InputError


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)
    return path


def test_a_category_lists_its_images_by_name_with_kinds_and_masks(tiny_root):
    category = read_category(tiny_root, "disc")
    assert [image.path.name for image in category.train] == [f"{number:03}.png" for number in range(6)]
    assert [(image.kind, image.path.name) for image in category.test] == [
        ("good", "000.png"),
        ("good", "001.png"),
        ("spot", "000.png"),
        ("spot", "001.png"),
    ]
    pixels, mask = category.test[2].load()
    assert pixels.shape == (64, 64, 3)
    assert mask.sum() == 12 * 12
    assert not category.test[0].load()[1].any()
    assert list_categories(tiny_root) == ["disc"]


@pytest.mark.parametrize("suffix", [".PNG", ".jpg", ".JPEG", ".bmp"])
def test_other_formats_and_cases_are_read_and_other_files_are_not(tiny_root, suffix):
    folder = tiny_root / "disc" / "train" / "good"
    save(folder / f"100{suffix}", np.full((64, 64, 3), 7, dtype=np.uint8))
    for other in (".hidden.png", "notes.txt", "Thumbs.db"):
        (folder / other).write_text("no image")
    category = read_category(tiny_root, "disc")
    assert [image.path.name for image in category.train][6:] == [f"100{suffix}"]
    assert abs(int(category.train[6].load()[0].mean()) - 7) <= 1


def test_a_jpeg_may_have_a_mask_in_another_format(tiny_root):
    save(tiny_root / "disc" / "test" / "spot" / "9.jpg", np.zeros((64, 64, 3), dtype=np.uint8))
    save(tiny_root / "disc" / "ground_truth" / "spot" / "9_mask.bmp", np.full((64, 64), 255, dtype=np.uint8))
    assert read_category(tiny_root, "disc").test[-1].load()[1].all()


def palette(indices):
    image = Image.fromarray(indices)
    image.putpalette([0, 0, 0, 64, 0, 0, 0, 192, 0])
    return image


SQUARE = np.zeros((8, 8), dtype=np.uint8)
SQUARE[2:5, 3:7] = 1
SOFT = SQUARE * 255
SOFT[1, 3:7] = 127
SOFT[5, 3:7] = 128
BLANK = np.zeros((8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(SQUARE * 255),
        Image.fromarray(SQUARE),
        Image.fromarray(SQUARE.astype(np.uint16) * 65535),
        Image.fromarray(SQUARE.astype(bool)),
        Image.fromarray(SQUARE * 3),
        Image.fromarray(SQUARE + SQUARE * (np.arange(8) > 4)),
        Image.fromarray(SQUARE.astype(np.float32)),
        palette(SQUARE),
        palette(SQUARE * 2),
        palette(SQUARE + SQUARE * (np.arange(8) > 4)),
        Image.fromarray(np.dstack([SQUARE * 255] * 3)),
        Image.fromarray(np.dstack([SQUARE * 255] * 3 + [np.full((8, 8), 255, dtype=np.uint8)])),
        Image.fromarray(np.dstack([BLANK, SQUARE * 255])),
    ],
    ids=[
        *("0/255", "0/1", "16-bit", "1-bit", "a label", "two labels", "floating point"),
        *("dark palette colour", "other palette colour", "two palette colours", "RGB", "RGBA", "opacity alone"),
    ],
)
def test_masks_of_every_kind_mean_the_same(tmp_path, image):
    path = tmp_path / ("mask.tif" if image.mode == "F" else "mask.png")
    image.save(path)
    np.testing.assert_array_equal(load_mask(path), SQUARE.astype(bool))


def test_masks_are_cut_at_more_than_a_half(tmp_path):
    mask = load_mask(save(tmp_path / "soft.png", SOFT))
    assert not mask[1].any()
    assert mask[5, 3:7].all()


def test_a_grey_palette_is_cut_like_grey(tmp_path):
    image = Image.fromarray(np.clip(SOFT, 0, 255))
    image.convert("P").save(tmp_path / "soft.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "soft.png"), SOFT > 127)


@pytest.mark.parametrize("pixels", [BLANK, np.dstack([BLANK, np.full((8, 8), 255, dtype=np.uint8)])])
def test_a_blank_mask_marks_nothing(tmp_path, pixels):
    assert not load_mask(save(tmp_path / "blank.png", pixels)).any()


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((4, 6), 77, dtype=np.uint8), 77),
        (np.dstack([np.full((4, 6, 3), 77, dtype=np.uint8), np.full((4, 6), 99, dtype=np.uint8)]), 77),
    ],
    ids=["grey", "transparent"],
)
def test_images_become_8_bit_colour(tmp_path, pixels, expected):
    image = load_image(save(tmp_path / "image.png", pixels))
    assert image.dtype == np.uint8
    assert image.shape == (4, 6, 3)
    assert (image == expected).all()


def test_a_missing_category_lists_those_there(tiny_root):
    with pytest.raises(InputError, match=r"'bottle'.*want one of: disc"):
        read_category(tiny_root, "bottle")


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_category(tmp_path / "nowhere", "bottle")


def test_an_image_that_does_not_decode_is_named(tiny_root):
    path = tiny_root / "disc" / "train" / "good" / "003.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"003\.png cannot be read"):
        read_category(tiny_root, "disc").train[3].load()


def test_a_mask_of_another_size_is_named_with_both_sizes(tiny_root):
    save(tiny_root / "disc" / "ground_truth" / "spot" / "001_mask.png", np.zeros((32, 48), dtype=np.uint8))
    with pytest.raises(InputError, match=r"001_mask\.png is 48x32.*64x64"):
        read_category(tiny_root, "disc").test[3].load()


def test_defective_images_without_a_mask_are_named(tiny_root):
    for mask in (tiny_root / "disc" / "ground_truth" / "spot").iterdir():
        mask.unlink()
    with pytest.raises(InputError, match=r"2 defective images.*spot/000\.png, .*spot/001\.png; want .*_mask\.png"):
        read_category(tiny_root, "disc")


def test_a_category_without_training_images_is_refused(tiny_root):
    for path in (tiny_root / "disc" / "train" / "good").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="got 0 images, want at least 2"):
        read_category(tiny_root, "disc")


def test_a_category_may_have_no_test_images(tiny_root):
    (tiny_root / "disc" / "test").rename(tiny_root / "disc" / "elsewhere")
    assert read_category(tiny_root, "disc").test == ()


def test_images_one_folder_deeper_are_found_with_their_masks(tiny_root):
    for part in ("test", "ground_truth"):
        (tiny_root / "disc" / part / "spot").rename(tiny_root / "disc" / part / "all")
        (tiny_root / "disc" / part / "spot").mkdir()
        (tiny_root / "disc" / part / "all").rename(tiny_root / "disc" / part / "spot" / "camera")
    spots = [image for image in read_category(tiny_root, "disc").test if not image.is_good]
    assert [(image.kind, image.path.name, image.mask_path.name) for image in spots] == [
        ("spot", "000.png", "000_mask.png"),
        ("spot", "001.png", "001_mask.png"),
    ]


def test_masks_may_lie_flat_where_that_leaves_no_doubt(tiny_root):
    spots = tiny_root / "disc" / "test" / "spot"
    for number in range(2):
        (spots / f"camera{number}").mkdir()
        (spots / f"00{number}.png").rename(spots / f"camera{number}" / f"00{number}.png")
    assert all(image.mask_path for image in read_category(tiny_root, "disc").test if not image.is_good)
    (spots / "camera1" / "001.png").rename(spots / "camera1" / "000.png")
    with pytest.raises(InputError, match=r"2 defective images without a mask.*a mask of any of 2 images: .*000_mask"):
        read_category(tiny_root, "disc")


@pytest.mark.parametrize("name", ["000_MASK.PNG", "000.bmp", "000_gt.png", "000-Label.tif", "000_ground_truth.png"])
def test_masks_of_other_names_are_found(tiny_root, name):
    folder = tiny_root / "disc" / "ground_truth" / "spot"
    (folder / "000_mask.png").unlink()
    mask = save(folder / name, np.full((64, 64), 255, dtype=np.uint8))
    assert read_category(tiny_root, "disc").test[2].mask_path == mask


def test_a_mask_that_belongs_to_nothing_is_named_and_two_masks_of_one_image_are_refused(tiny_root):
    folder = tiny_root / "disc" / "ground_truth" / "spot"
    save(folder / "0000_mask.png", np.zeros((64, 64), dtype=np.uint8))
    (one,) = read_category(tiny_root, "disc").left_out
    assert (one.path.name, one.reason) == ("0000_mask.png", "a mask of no image here")
    (folder / "000_mask.png").rename(folder / "000_cut.png")
    with pytest.raises(
        InputError, match=r"1 defective image without a mask: .*000\.png.*no image here: .*000_cut\.png"
    ):
        read_category(tiny_root, "disc")
    save(folder / "000_mask.bmp", np.zeros((64, 64), dtype=np.uint8))
    save(folder / "000_mask.tif", np.zeros((64, 64), dtype=np.uint8))
    with pytest.raises(InputError, match=r"000\.png: got 2 masks, .*000_mask\.bmp, .*000_mask\.tif; want one"):
        read_category(tiny_root, "disc")


@pytest.mark.parametrize("part", ["train", "test"])
def test_good_may_be_written_with_a_capital_letter(tiny_root, part):
    (tiny_root / "disc" / part / "good").rename(tiny_root / "disc" / part / "other")
    (tiny_root / "disc" / part / "other").rename(tiny_root / "disc" / part / "Good")
    category = read_category(tiny_root, "disc")
    assert (len(category.train), sum(image.is_good for image in category.test)) == (6, 2)
    assert {image.kind for image in category.test} == {"good", "spot"}
    assert list_categories(tiny_root) == ["disc"]


def test_a_type_whose_images_cannot_be_read_is_refused_by_name(tiny_root):
    spots = tiny_root / "disc" / "test" / "spot"
    for path in list(spots.iterdir()):
        path.rename(path.with_suffix(".xcf"))
    with pytest.raises(InputError, match=r"spot: got no image that can be read.*\.xcf is not read: .*000\.xcf"):
        read_category(tiny_root, "disc")


def test_every_file_is_taken_or_left_out_with_a_reason(tiny_root):
    disc = tiny_root / "disc"
    grey = np.zeros((64, 64), dtype=np.uint8)
    for path in ("train/bad/1.png", "test/2.png", "ground_truth/rust/3_mask.png", "ground_truth/good/000_mask.png"):
        save(disc / path, grey)
    for path in ("test/spot/notes.txt", "test/spot/.hidden.png", "test/spot/Thumbs.db"):
        (disc / path).write_text("no image")
    (disc / "test" / "spot" / "more").symlink_to(disc / "test")
    left_out = {str(one.path.relative_to(disc)): one.reason for one in read_category(tiny_root, "disc").left_out}
    assert left_out == {
        "train/bad/1.png": "training takes train/good alone",
        "test/2.png": "not in a folder of a type",
        "test/spot/more": "a link, and not to a file",
        "test/spot/notes.txt": ".txt is not read",
        "ground_truth/good": "masks of no defective images",
        "ground_truth/rust": "masks of no defective images",
    }
