"""Views: the same of image and mask, and maps that come back to where the image shows what they found."""

import numpy as np
import pytest

from sw_anomaly.preprocessing.pose import find_pose, learn_alignment
from sw_anomaly.preprocessing.view import View, choose_image_size, scale_down

from conftest import draw_nail, draw_nails


@pytest.fixture(scope="module")
def aligned():
    return View(160, learn_alignment(draw_nails(np.arange(12))).crop)


@pytest.mark.parametrize("size", [(160, 160), (240, 100), (57, 91)])
def test_without_a_crop_images_become_squares_and_maps_come_back(size):
    image = np.zeros((*size, 3), dtype=np.uint8)
    mask = np.zeros(size, dtype=bool)
    mask[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    image[mask] = 255
    viewed = View(96).apply(image)
    assert viewed.pixels.shape == (96, 96, 3)
    assert viewed.part is None
    assert (viewed.take_mask(mask) == (viewed.pixels[..., 0] > 127)).mean() > 0.97
    back = viewed.put_back(viewed.take_mask(mask).astype(np.float32))
    assert back.shape == size
    assert ((back > 0.5) == mask).mean() > 0.97


@pytest.mark.parametrize("enlarged", [1, 3])
def test_with_a_crop_the_part_is_seen_at_one_scale_and_maps_come_back(aligned, enlarged):
    image = np.repeat(np.repeat(draw_nail(2.2, mark=(-20, 0)), enlarged, axis=0), enlarged, axis=1)
    viewed = aligned.apply(image)
    assert viewed.pixels.shape == (*aligned.shape, 3)
    silhouette = find_pose(scale_down(image, 160)).silhouette
    assert viewed.part.sum() == pytest.approx(silhouette.sum(), rel=0.05)
    mask = image.mean(axis=2) > 245
    heat = (viewed.pixels.mean(axis=2) > 235).astype(np.float32)
    assert (viewed.take_mask(mask) & (heat > 0)).sum() > 0.6 * (heat > 0).sum()
    back = viewed.put_back(heat)
    assert back.shape == image.shape[:2]
    row, column = np.argwhere(back > 0.5).mean(axis=0)
    np.testing.assert_allclose([row, column], np.argwhere(mask).mean(axis=0), atol=2 * enlarged)


def test_an_image_without_a_part_is_viewed_all_the_same(aligned):
    viewed = aligned.apply(np.full((120, 160, 3), 200, dtype=np.uint8))
    assert viewed.pixels.shape == (*aligned.shape, 3)
    assert not viewed.part.any()
    assert viewed.put_back(np.ones(aligned.shape, dtype=np.float32)).shape == (120, 160)


def test_small_images_are_not_enlarged():
    assert scale_down(np.zeros((30, 50, 3), dtype=np.uint8), 160).shape == (30, 50, 3)
    assert scale_down(np.zeros((300, 600, 3), dtype=np.uint8), 160).shape == (80, 160, 3)


@pytest.mark.parametrize(("shape", "size"), [((64, 64), 64), ((200, 150), 192), ((1024, 1024), 320), ((20, 30), 64)])
def test_the_image_size_is_that_of_the_images_within_reason(shape, size):
    assert choose_image_size(shape) == size
