"""Pixels: one scale for all images of a category, nothing lost above 8 bits, turned as a viewer turns them."""

import numpy as np
import pytest
from PIL import Image

from sw_anomaly.data.category import LabelledImage
from sw_anomaly.data.images import load_image, load_mask
from sw_anomaly.data.intensity import Intensity, learn_intensity
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.preprocessing.view import View
from sw_models.errors import InputError

from conftest import draw_part, save

RNG = np.random.default_rng(0)
PARTS = [draw_part(RNG) for _ in range(4)]
GREY = [part[..., 0] for part in PARTS]


def save_deep(folder, bits):
    """The same parts in files of 8 bits, or in 16-bit files of which so many bits are in use."""
    if bits == 8:
        return [save(folder / f"{number}.png", grey) for number, grey in enumerate(GREY)]
    white = 2**bits - 1
    deep = [np.rint(grey / 255.0 * white).astype(np.uint16) for grey in GREY]
    return [save(folder / f"{number}.png", pixels) for number, pixels in enumerate(deep)]


def learn(paths, **options):
    return learn_intensity([LabelledImage(path, "good") for path in paths], **options)


def scores(paths):
    intensity = learn(paths[:3])
    views = [View(64).apply(intensity.levels(load_image(path))).pixels for path in paths]
    return PatchBank.fit(np.stack(views[:3]), 64, seed=0).inspect(views[3]).score


def test_the_same_part_scores_the_same_at_every_depth(tmp_path, monkeypatch):
    monkeypatch.setattr("sw_anomaly.methods.patch_bank.SAMPLED", 300)
    found = [scores(save_deep(tmp_path / str(bits), bits)) for bits in (8, 10, 12, 16)]
    np.testing.assert_allclose(found, found[0], rtol=0.03)
    assert found[0] > 0.1


@pytest.mark.parametrize("highest", [255, 256])
def test_frames_of_one_camera_load_alike_whatever_their_maximum(tmp_path, highest):
    frame = np.full((8, 8), 127, dtype=np.uint16)
    frame[0, 0] = highest
    levels = Intensity(1023.0).levels(load_image(save(tmp_path / "frame.png", frame)))
    assert levels.dtype == np.float32
    assert levels[4, 4, 0] == pytest.approx(127 * 255 / 1023)


@pytest.mark.parametrize(("top", "white"), [(200, 255), (256, 1023), (1023, 1023), (4000, 4095), (60000, 65535)])
def test_the_depth_in_use_is_learned_from_all_images(tmp_path, top, white):
    paths = [
        save(tmp_path / f"{number}.png", np.full((8, 8), level, dtype=np.uint16))
        for number, level in ((0, 3), (1, top))
    ]
    assert learn(paths).white == white


def test_a_stated_depth_counts_unless_the_images_say_otherwise(tmp_path):
    path = save(tmp_path / "dark.png", np.full((8, 8), 300, dtype=np.uint16))
    assert learn([path], bit_depth=12).white == 4095
    with pytest.raises(InputError, match=r"--bit-depth: got 8, want more: .*dark\.png holds values up to 300"):
        learn([path], bit_depth=8)


def test_fractions_have_a_white_of_one_and_numbers_must_be_finite(tmp_path):
    path = tmp_path / "fractions.tif"
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(path)
    assert learn([path]) == Intensity(1.0)
    assert Intensity(1.0).levels(load_image(path)).max() == pytest.approx(127.5)
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(path)
    with pytest.raises(InputError, match="not finite"):
        learn([path])
    with pytest.raises(InputError, match="not finite"):
        Intensity(1.0).levels(load_image(path))


def test_a_file_deeper_than_those_of_training_is_refused():
    with pytest.raises(InputError, match="got uint16 values, want 8-bit ones"):
        Intensity().levels(np.zeros((4, 4, 3), dtype=np.uint16))


def test_files_of_8_bits_keep_their_pixels(tmp_path):
    path = save(tmp_path / "part.png", PARTS[0])
    assert learn([path]) == Intensity()
    np.testing.assert_array_equal(Intensity().levels(load_image(path)), PARTS[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_images_and_masks_are_turned_alike(tmp_path, orientation, suffix):
    pixels = np.zeros((24, 16), dtype=np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(path, exif=exif)
    image, mask = load_image(path), load_mask(path)
    assert mask.shape == ((24, 16) if orientation < 5 else (16, 24))
    np.testing.assert_array_equal(image[..., 0] > 127, mask)
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    assert mask[corner[0] * -1, corner[1] * -1]


def test_16_bit_color_keeps_its_depth(tmp_path):
    import cv2

    pixels = RNG.integers(0, 65536, (8, 8, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "color.png"), pixels[..., ::-1])
    np.testing.assert_array_equal(load_image(tmp_path / "color.png"), pixels)


@pytest.mark.parametrize("load", [load_image, load_mask])
def test_huge_images_are_refused_in_one_line_before_they_are_decoded(tmp_path, load):
    path = save(tmp_path / "huge.png", np.zeros((30, 40), dtype=np.uint8))
    with pytest.raises(
        InputError, match=r"huge\.png cannot be read as an image \(got 40x30, want at most 1,000 pixels"
    ):
        load(path, 1000)
    assert load(path, 1200).shape[:2] == (30, 40)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("load", [load_image, load_mask])
def test_files_that_are_cut_short_are_refused(tmp_path, load, suffix):
    path = save(tmp_path / f"part{suffix}", PARTS[0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read as an image"):
        load(path)
