"""Training samples: reproducible, three in four with a defect, the reference moving with the image."""

import numpy as np
import pytest
import torch

from sw_anomaly.data.layouts import read_category
from sw_anomaly.methods.unet.batches import Views, make_batch, make_validation
from sw_anomaly.preprocessing.view import View

CPU = torch.device("cpu")


@pytest.fixture
def category(tiny_root):
    return read_category(tiny_root, "disc")


@pytest.fixture
def good(category):
    return Views(category.train, View(64))


def test_images_are_scaled_to_the_size_asked_for(category):
    good = Views(category.train, View(96))
    assert good.pixels.shape == (6, 96, 96, 3)
    assert good.median().shape == (96, 96, 3)
    assert 0 <= good.get(0).min() <= good.get(0).max() <= 1


def test_one_sample_in_four_has_no_defect(good):
    inputs, masks = make_batch(good, good.median(), 8, seed=0, number=0, device=CPU)
    assert inputs.shape == (8, 6, 64, 64)
    assert masks.shape == (8, 1, 64, 64)
    assert [bool(mask.any()) for mask in masks] == [False, True, True, True] * 2


def test_the_difference_from_the_reference_is_small_where_there_is_no_defect(good):
    inputs, masks = make_batch(good, good.median(), 16, seed=0, number=0, device=CPU)
    difference = inputs[:, 3:].abs().mean(dim=1, keepdim=True)
    assert difference[masks == 0].mean() < 0.1
    assert difference[masks == 1].mean() > 1.5 * difference[masks == 0].mean()


def test_batches_follow_from_seed_and_number(good):
    first = make_batch(good, good.median(), 4, 0, 7, CPU)
    torch.testing.assert_close(make_batch(good, good.median(), 4, 0, 7, CPU), first, rtol=0, atol=0)
    for seed, number in ((0, 8), (1, 7)):
        assert not torch.equal(make_batch(good, good.median(), 4, seed, number, CPU)[0], first[0])


def test_validation_holds_each_image_as_it_is_and_twice_with_defects(good):
    cases = make_validation(good, seed=0)
    assert len(cases) == 3 * len(good.pixels)
    assert [mask.any() for _, mask, _ in cases] == [False, True, True] * len(good.pixels)
    np.testing.assert_array_equal(cases[3][0], good.pixels[1])
    assert all(image.dtype == np.uint8 for image, _, _ in cases)
    for (one, mask, origin), (other, same, _) in zip(cases, make_validation(good, seed=0), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(mask, same)
        assert (one != good.pixels[origin]).any() == mask.any()


def test_of_four_samples_one_has_a_real_defect_where_there_are_any(category):
    views = Views(category.train[:2] + category.test, View(64))
    assert len(views.defective) == 2
    inputs, masks = make_batch(views, views.median(), 8, 0, 0, CPU)
    assert [bool(mask.any()) for mask in masks] == [False, True, True, True] * 2
    for place in (1, 5):  # the spots are white and 12x12
        spot = inputs[place, :3].mean(dim=0)[masks[place, 0] == 1]
        assert spot.median() > 0.9
        assert 100 < masks[place].sum() < 190
    cases = make_validation(views, seed=0)
    assert len(cases) == 3 * 4 + 2
    assert sum(mask.any() for _, mask, _ in cases) == 2 * 4 + 2


def test_dirt_lies_beside_the_part_and_is_not_labelled(good):
    part = np.zeros((64, 64), dtype=bool)
    part[20:44, 20:44] = True
    good.grounds = {0: np.argwhere(~part)}
    dirty = [good.with_dirt(0, np.random.default_rng(seed)) for seed in range(40)]
    changed = [np.abs(image - good.get(0)).max(axis=2) > 0 for image in dirty]
    assert 10 < sum(one.any() for one in changed) < 30
    assert np.mean([one[part].sum() for one in changed]) < 0.2 * np.mean([one.sum() for one in changed])
    assert not np.any(good.with_dirt(1, np.random.default_rng(0)) - good.get(1))
