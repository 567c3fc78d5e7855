"""Reading the layout: what is found, in which order, how masks are understood, and what is said when it is wrong."""

import numpy as np
import pytest
from PIL import Image

from sw_anomaly.data.mvtec import list_categories, load_image, load_mask, read_category
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
        (np.full((4, 6), 77 * 257, dtype=np.uint16), 77),
        (np.dstack([np.full((4, 6, 3), 77, dtype=np.uint8), np.full((4, 6), 99, dtype=np.uint8)]), 77),
    ],
    ids=["grey", "16-bit", "transparent"],
)
def test_images_become_8_bit_colour(tmp_path, pixels, expected):
    image = load_image(save(tmp_path / "image.png", pixels))
    assert image.dtype == np.uint8
    assert image.shape == (4, 6, 3)
    assert (image == expected).all()


def test_a_missing_category_lists_those_there(tiny_root):
    with pytest.raises(InputError, match=r"'bottle'.*categories there: disc"):
        read_category(tiny_root, "bottle")


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_category(tmp_path / "nowhere", "bottle")


def test_an_image_that_does_not_decode_is_named(tiny_root):
    path = tiny_root / "disc" / "train" / "good" / "003.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"003\.png does not decode"):
        read_category(tiny_root, "disc").train[3].load()


def test_a_mask_of_another_size_is_named_with_both_sizes(tiny_root):
    save(tiny_root / "disc" / "ground_truth" / "spot" / "001_mask.png", np.zeros((32, 48), dtype=np.uint8))
    with pytest.raises(InputError, match=r"001_mask\.png is 48x32.*64x64"):
        read_category(tiny_root, "disc").test[3].load()


def test_defective_images_without_a_mask_are_named(tiny_root):
    for mask in (tiny_root / "disc" / "ground_truth" / "spot").iterdir():
        mask.unlink()
    with pytest.raises(InputError, match=r"2 defective images.*spot/000\.png, .*spot/001\.png; .*_mask\.png is wanted"):
        read_category(tiny_root, "disc")


def test_a_category_without_training_images_is_refused(tiny_root):
    for path in (tiny_root / "disc" / "train" / "good").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="holds 0 images"):
        read_category(tiny_root, "disc")


def test_a_category_may_have_no_test_images(tiny_root):
    (tiny_root / "disc" / "test").rename(tiny_root / "disc" / "elsewhere")
    assert read_category(tiny_root, "disc").test == ()
