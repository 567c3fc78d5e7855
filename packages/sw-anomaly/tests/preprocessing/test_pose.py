"""Pose: found whatever the turn, put back where it came from, and used only where the images prove that it helps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sw_anomaly.preprocessing import pose
from sw_anomaly.preprocessing.pose import Crop, find_pose, learn_alignment

from conftest import NAIL_LENGTH, draw_nail, draw_nails

CROP = Crop(112, 64, 8, (210.0, 210.0, 210.0))


@given(angle=st.floats(0, 2 * np.pi), row=st.floats(65, 95), column=st.floats(65, 95))
def test_the_pose_of_a_part_is_found_however_it_lies(angle, row, column):
    found = find_pose(draw_nail(angle, row, column))
    towards_head = np.array([np.sin(angle), np.cos(angle)])
    assert -found.axis @ towards_head > np.cos(np.deg2rad(2))
    assert found.length == pytest.approx(NAIL_LENGTH, abs=4)
    assert found.width == pytest.approx(40, abs=4)
    np.testing.assert_allclose(found.centre, [row, column], atol=2.5)


def test_shadows_do_not_count():
    plain, shaded = find_pose(draw_nail(0.3)), find_pose(draw_nail(0.3, shadow=70))
    assert shaded.length == pytest.approx(plain.length, abs=1.5)
    np.testing.assert_allclose(shaded.start, plain.start, atol=1.5)


def test_a_bright_part_on_dark_ground_is_found_too():
    dark = 255 - draw_nail(1.0)
    np.testing.assert_allclose(find_pose(dark).start, find_pose(draw_nail(1.0)).start, atol=1)


@pytest.mark.parametrize(
    "picture",
    [
        np.full((64, 64, 3), 120, dtype=np.uint8),
        np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8),
        np.repeat(np.where(np.hypot(*(np.mgrid[:96, :96] - 48)) < 30, 60, 200)[..., None], 3, 2).astype(np.uint8),
    ],
    ids=["even", "texture", "disc"],
)
def test_without_a_part_that_has_an_axis_there_is_no_pose(picture):
    assert find_pose(picture) is None


@pytest.mark.parametrize("angle", np.arange(0, 6.2, 0.7))
def test_crops_are_alike_however_the_part_lies_and_never_mirrored(angle):
    mark = (10, 12)  # beside the shank, so that a mirrored crop would show it on the other side
    upright, turned = draw_nail(-np.pi / 2, mark=mark), draw_nail(angle, 76, 84, mark=mark)
    crops = [pose.take(image, find_pose(image), CROP) for image in (upright, turned)]
    assert crops[0].shape == (112, 64, 3)
    difference = np.abs(crops[0].astype(float) - crops[1]).mean(axis=2)
    assert ndimage.uniform_filter(difference, 5).max() < 45
    assert difference.mean() < 6
    assert crops[0][: CROP.margin - 2].mean() > 195
    assert crops[0][CROP.margin + 4, 20:44].mean() < 100  # the head comes first


def test_the_ground_of_all_crops_has_one_level():
    for ground in (190, 230):
        image = draw_nail(0.5, ground=ground)
        assert pose.take(image, find_pose(image), CROP)[:4].mean() == pytest.approx(210, abs=4)


@given(seed=st.integers(0, 100), sigma=st.floats(0.5, 4))
def test_steepness_is_that_of_a_gaussian_derivative_reflected_at_the_border(seed, sigma):
    image = np.random.default_rng(seed).uniform(0, 255, (40, 57)).astype(np.float32)
    wanted = ndimage.gaussian_gradient_magnitude(image.astype(float), sigma)
    np.testing.assert_allclose(pose.gradient_magnitude(image, sigma), wanted, rtol=1e-3, atol=1e-3)


@given(angle=st.floats(0, 2 * np.pi))
def test_axis_and_middle_are_those_of_the_places_of_the_part(angle):
    found = find_pose(draw_nail(angle))
    places = np.argwhere(found.silhouette).astype(float)
    spread = np.cov((places - places.mean(axis=0)).T)
    assert found.axis @ spread @ found.axis == pytest.approx(np.linalg.eigvalsh(spread)[1])
    filled = ndimage.binary_fill_holes(found.silhouette)
    assert (filled == found.silhouette).all()
    assert ndimage.label(found.silhouette)[1] == 1


@given(angle=st.floats(0, 2 * np.pi))
def test_what_is_taken_is_put_back_where_it_was(angle):
    image = draw_nail(angle, mark=(0, 0))
    where = find_pose(image)
    mask = np.zeros((160, 160), dtype=bool)
    mask[74:87, 74:87] = True
    cut = pose.take_mask(mask, where, CROP)
    assert cut.sum() == pytest.approx(mask.sum(), rel=0.1)
    back = pose.put_back(cut.astype(np.float32), where, CROP, (160, 160)) > 0.5
    assert (back & mask).sum() > 0.8 * (back | mask).sum()
    assert pose.put_back(np.ones((112, 64), dtype=np.float32), where, CROP, (160, 160)).mean() < 0.5  # 0 elsewhere


def test_parts_that_lie_anyhow_are_aligned():
    alignment = learn_alignment(draw_nails(np.arange(12)))
    assert alignment.crop is not None
    assert alignment.crop.height == pytest.approx(112, abs=16)
    assert "in one pose" in alignment.finding


def test_parts_that_lie_alike_already_are_left_alone():
    rng = np.random.default_rng(1)
    images = [np.clip(draw_nail(0.4) + rng.normal(0, 3, (160, 160, 1)), 0, 255).astype(np.uint8) for _ in range(6)]
    assert learn_alignment(images).crop is None
    assert learn_alignment(images[:1] * 6).crop is None


def test_one_image_without_a_part_in_ten_is_too_many():
    images = [*draw_nails(np.arange(9)), np.full((160, 160, 3), 200, dtype=np.uint8)]
    alignment = learn_alignment(images)
    assert alignment.crop is None
    assert "only 9 of 10 images" in alignment.finding
