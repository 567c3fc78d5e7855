"""Splits: disjoint, complete, the same on every run and file system, and blind to the test images."""

import random
from dataclasses import replace

import pytest

from sw_anomaly.data.category import Category, LabelledImage
from sw_anomaly.data.layouts import read_category
from sw_anomaly.data.splits import Protocol, make_split
from sw_models.errors import InputError

UNSUPERVISED, PUBLISHED = Protocol(), Protocol("published")


@pytest.fixture
def category(tiny_root):
    return read_category(tiny_root, "disc")


@pytest.fixture
def large(tmp_path):
    """40 good images to train with; 10 good, 12 of ``bent`` and 8 of ``chip`` to test with; no files."""
    train = tuple(LabelledImage(tmp_path / "disc/train/good" / f"{n:03}.png", "good") for n in range(40))
    test = tuple(
        LabelledImage(
            tmp_path / f"disc/test/{kind}/{n:03}.png", kind, tmp_path / f"disc/ground_truth/{kind}/{n:03}.png"
        )
        for kind, count in (("bent", 12), ("chip", 8), ("good", 10))
        for n in range(count)
    )
    return Category("disc", train, test)


def kinds(images):
    return {kind: sum(image.kind == kind for image in images) for kind in sorted({image.kind for image in images})}


@pytest.mark.parametrize("seed", range(5))
def test_training_and_validation_share_the_good_training_images(category, seed):
    split = make_split(category, UNSUPERVISED, seed)
    assert set(split.train) | set(split.validation) == set(category.train)
    assert not set(split.train) & set(split.validation)
    assert split.validation
    assert split.test == category.test


def test_equal_seeds_give_equal_splits_and_the_test_images_have_no_say(large):
    split = make_split(large, UNSUPERVISED, 3)
    assert make_split(large, UNSUPERVISED, 3) == split
    assert make_split(replace(large, test=()), UNSUPERVISED, 3).validation == split.validation
    assert len({make_split(large, UNSUPERVISED, seed).validation for seed in range(20)}) > 1


@pytest.mark.parametrize(
    "protocol",
    [UNSUPERVISED, Protocol("supervised", 10), Protocol("supervised", 10, "bent"), PUBLISHED],
    ids=["unsupervised", "general", "hard", "published"],
)
def test_the_order_in_which_files_are_listed_changes_nothing(large, protocol):
    shuffled = random.Random(0)
    listed = [shuffled.sample(images, len(images)) for images in (large.train, large.test)]
    other = make_split(Category("disc", tuple(listed[0]), tuple(listed[1])), protocol, 5)
    split = make_split(large, protocol, 5)
    assert (split.train, split.validation) == (other.train, other.validation)
    assert set(split.test) == set(other.test)


@pytest.mark.parametrize("seed", range(4))
def test_known_defects_leave_the_test_set_and_good_ones_stay(large, seed):
    split = make_split(large, Protocol("supervised", 10), seed)
    known = [image for image in split.train + split.validation if not image.is_good]
    assert len(known) == 10
    assert kinds(split.validation) != kinds(split.train)
    assert sum(not image.is_good for image in split.validation) == 2
    assert sum(image.is_good for image in split.train + split.validation) == 40
    assert not set(known) & set(split.test)
    assert set(known) | set(split.test) == set(large.test)
    assert kinds(split.test)["good"] == 10


def test_a_known_type_is_drawn_from_alone_and_tested_on_not_at_all(large):
    split = make_split(large, Protocol("supervised", 10, "bent"), 0)
    assert kinds([image for image in split.train + split.validation if not image.is_good]) == {"bent": 10}
    assert kinds(split.test) == {"chip": 8, "good": 10}
    few = make_split(large, Protocol("supervised", 10, "chip"), 0)
    assert kinds([image for image in few.train + few.validation if not image.is_good]) == {"chip": 8}


def test_the_published_split_tests_on_all_it_trained_on(large):
    split = make_split(large, PUBLISHED, 0)
    defective = {image for image in large.test if not image.is_good}
    assert set(split.test) == defective
    assert {image for image in split.train + split.validation if not image.is_good} == defective
    assert len(split.validation) == 4
    assert sum(image.is_good for image in split.train) == 16
    assert [protocol.leaky for protocol in (UNSUPERVISED, Protocol("supervised", 4), PUBLISHED)] == [False, False, True]


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (Protocol("supervised", 20), "--defects is 20; there are 20 defective images"),
        (Protocol("supervised", 4, "rust"), "--known-type is 'rust'; .* there are: bent, chip"),
    ],
)
def test_protocols_that_a_category_does_not_allow(large, protocol, message):
    with pytest.raises(InputError, match=message):
        make_split(large, protocol, 0)


def test_without_defective_images_there_is_nothing_published(large):
    with pytest.raises(InputError, match="wants 2 or more defective images; 'disc' has 0"):
        make_split(replace(large, test=()), PUBLISHED, 0)
