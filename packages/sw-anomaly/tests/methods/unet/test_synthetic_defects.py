"""Synthetic defects: labelled where the image changed, only there, reproducible, and put on the part."""

import numpy as np
import pytest

from sw_anomaly.methods.unet.synthetic_defects import FILLINGS, SHAPES, SMALLEST_AREA, VISIBLE, add_defects, find_part


def part_image(seed=0, size=96):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    stripes = 0.4 + 0.2 * np.sin(40 * x + seed)
    return np.where((np.hypot(x, y) < 0.3)[..., None], stripes[..., None], 0.9).astype(np.float32) + rng.normal(
        0, 0.01, (size, size, 3)
    ).astype(np.float32).clip(-0.02, 0.02)


@pytest.mark.parametrize("seed", range(20))
def test_the_mask_holds_what_visibly_changed_and_nothing_else(seed):
    image, donor = np.clip(part_image(0), 0, 1), np.clip(part_image(1), 0, 1)
    untouched = image.copy()
    result, mask = add_defects(image, donor, find_part(image), np.random.default_rng(seed))
    np.testing.assert_array_equal(image, untouched)
    assert result.dtype == np.float32
    assert 0 <= result.min() <= result.max() <= 1
    assert mask.sum() >= SMALLEST_AREA
    change = np.abs(result - image).max(axis=2)
    assert change[~mask].max() <= 9 * VISIBLE  # a mean over 3x3 pixels decides
    assert change[mask].mean() > 2 * change[~mask].mean()


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_with_every_filling_makes_defects(monkeypatch, shape, filling):
    monkeypatch.setattr("sw_anomaly.methods.unet.synthetic_defects.SHAPES", {shape: 1.0})
    monkeypatch.setattr("sw_anomaly.methods.unet.synthetic_defects.FILLINGS", {filling: 1.0})
    image = np.clip(part_image(), 0, 1)
    areas = [add_defects(image, image, find_part(image), np.random.default_rng(seed))[1].mean() for seed in range(8)]
    assert max(areas) < 0.6
    assert len(set(areas)) > 4


@pytest.mark.parametrize("seed", range(10))
def test_defects_are_as_large_as_they_are_asked_to_be(seed):
    image, reach = np.clip(part_image(size=200), 0, 1), 8
    middle, radius = np.array([[100, 100]]), (4 / 200, reach / 200)
    _, mask = add_defects(image, 1 - image, middle, np.random.default_rng(seed), radius)
    rows, columns = np.nonzero(mask)
    assert np.hypot(rows - 100, columns - 100).max() < 2.2 * np.sqrt(2) * reach + 5  # of a shape two radii long


def test_defects_have_colours_where_there_are_any_and_only_there():
    grey = np.repeat(np.clip(part_image()[..., :1], 0, 1), 3, axis=2)
    for seed in range(40):
        result, _ = add_defects(grey, grey, find_part(grey), np.random.default_rng(seed))
        np.testing.assert_allclose(result, result[..., :1].repeat(3, axis=2), atol=1e-6)
    coloured = grey * np.float32([1, 0.8, 0.6])
    tints = []
    for seed in range(40):
        result, mask = add_defects(coloured, coloured, find_part(coloured), np.random.default_rng(seed))
        red, green, _ = (result[mask] - coloured[mask]).mean(axis=0)
        tints.append(green > red + 0.02)
    assert 3 < sum(tints) < 30


def test_equal_generators_give_equal_defects_and_the_global_one_is_left_alone():
    image = np.clip(part_image(), 0, 1)
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 (the one under test)
    one, other = (add_defects(image, image, find_part(image), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_defects_reach_the_edges_of_the_image_and_work_off_square():
    image = np.full((40, 72, 3), 0.5, dtype=np.float32)
    corners = np.array([[0, 0], [39, 71]])
    for seed in range(20):
        result, mask = add_defects(image, image + 0.3, corners, np.random.default_rng(seed))
        assert result.shape == image.shape
        assert mask.shape == image.shape[:2]


def test_the_part_is_found_on_a_plain_ground():
    rows, columns = find_part(np.clip(part_image(), 0, 1)).T / 96 - 0.5
    assert np.hypot(rows, columns).max() < 0.32
    assert len(rows) == pytest.approx(np.pi * 0.3**2 * 96**2, rel=0.1)


def test_a_texture_is_part_everywhere():
    texture = np.random.default_rng(0).uniform(0, 1, (32, 48, 3)).astype(np.float32)
    assert len(find_part(texture)) == 32 * 48


def test_an_even_image_is_part_everywhere():
    assert len(find_part(np.full((16, 16, 3), 0.3, dtype=np.float32))) == 16 * 16
