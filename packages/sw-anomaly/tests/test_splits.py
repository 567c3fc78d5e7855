"""The split: disjoint, complete, the same on every run, and blind to the test images."""

from dataclasses import replace

import pytest

from sw_anomaly.dataset import read_category
from sw_anomaly.splits import digest, unsupervised_split


@pytest.fixture
def category(tiny_root):
    return read_category(tiny_root, "disc")


@pytest.mark.parametrize("seed", range(5))
def test_training_and_validation_share_the_good_training_images(category, seed):
    split = unsupervised_split(category, seed)
    assert set(split.train) | set(split.validation) == set(category.train)
    assert not set(split.train) & set(split.validation)
    assert split.validation
    assert split.test == category.test


def test_equal_seeds_give_equal_splits_and_the_test_images_have_no_say(category):
    assert unsupervised_split(category, 3) == unsupervised_split(category, 3)
    assert unsupervised_split(replace(category, test=()), 3).validation == unsupervised_split(category, 3).validation
    assert len({unsupervised_split(category, seed).validation for seed in range(20)}) > 1


def test_the_digest_depends_on_contents_alone(category):
    before = digest(category.train)
    assert digest(reversed(category.train)) == before
    moved = category.train[0].path.rename(category.train[0].path.with_name("zzz.png"))
    renamed = (replace(category.train[0], path=moved), *category.train[1:])
    assert digest(renamed) == before
    moved.write_bytes(moved.read_bytes() + b"x")
    assert digest(renamed) != before
