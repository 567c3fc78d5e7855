"""Which images fit a detector, which stop and threshold it, and which test it: one function per protocol.

Every draw follows from the seed and from the images' names, not from the order in which a file system lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sw_anomaly.data.category import Category, LabelledImage
from sw_anomaly.randomness import Purpose, generator
from sw_models.errors import InputError

HELD_OUT = 0.12  # share of the good training images that is held out for validation
HELD_OUT_AT_MOST = 32
HELD_OUT_DEFECTS = 0.2  # share of the known defective images that is held out
DEFECTS = 10  # defective images that the supervised protocol shows, as in arXiv 2203.14506


@dataclass(frozen=True)
class Protocol:
    """Who may see what.

    ``unsupervised``: good training images only. ``supervised``: ``defects`` of the defective test images besides, drawn
    over all types, or all of them of ``known_type``; what is shown, and the whole known type, leaves the test set.
    ``published``: the split of the published code, whose test images are those it was trained on; for comparison only.
    """

    name: str = "unsupervised"
    defects: int = 0
    known_type: str | None = None

    @property
    def leaky(self) -> bool:
        """Whether test images are trained on, so that figures say nothing about other images."""
        return self.name == "published"


@dataclass(frozen=True)
class Split:
    """Three sets of images, without a common one unless the protocol is leaky."""

    train: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]


def make_split(category: Category, protocol: Protocol, seed: int) -> Split:
    """Return the split of a category under a protocol; equal seeds give equal splits."""
    draw = {"unsupervised": _unsupervised, "supervised": _supervised, "published": _published}
    if protocol.name != "unsupervised" and not category.has_masks:
        raise InputError(f"--protocol: got {protocol.name}, which learns from masks; want one for each defective image")
    return draw[protocol.name](category, protocol, generator(seed, Purpose.SPLIT))


def _unsupervised(category: Category, protocol: Protocol, rng: np.random.Generator) -> Split:
    good = _by_name(category.train)
    count = min(max(round(HELD_OUT * len(good)), 1), HELD_OUT_AT_MOST)
    validation, train = _draw(good, count, rng)
    return Split(train, validation, category.test)


def _supervised(category: Category, protocol: Protocol, rng: np.random.Generator) -> Split:
    good = _unsupervised(category, protocol, rng)
    defective = [image for image in _by_name(category.test) if not image.is_good]
    kinds = sorted({image.kind for image in defective})
    if protocol.known_type is not None:
        if protocol.known_type not in kinds or len(kinds) < 2:
            raise InputError(
                f"--known-type is {protocol.known_type!r}; one of several types is wanted, there are: "
                f"{', '.join(kinds) or 'none'}"
            )
        defective = [image for image in defective if image.kind == protocol.known_type]
    elif protocol.defects >= len(defective):
        raise InputError(
            f"--defects is {protocol.defects}; there are {len(defective)} defective images, some of them to test"
        )
    shown, _ = _draw(defective, min(protocol.defects, len(defective)), rng)
    validation, train = _draw(shown, round(HELD_OUT_DEFECTS * len(shown)), rng)
    gone = set(shown) | (set(defective) if protocol.known_type is not None else set())
    test = tuple(image for image in category.test if image not in gone)
    return Split(good.train + train, good.validation + validation, test)


def _published(category: Category, protocol: Protocol, rng: np.random.Generator) -> Split:
    """Four in five of the defective images and as many good ones to train, the fifth to stop, all defective to test."""
    defective = [image for image in _by_name(category.test) if not image.is_good]
    if len(defective) < 2:
        raise InputError(
            f"--protocol published wants 2 or more defective images; {category.name!r} has {len(defective)}"
        )
    train, validation = _draw(defective, min(max(round(0.8 * len(defective)), 1), len(defective) - 1), rng)
    good, _ = _draw(_by_name(category.train), min(len(train), len(category.train)), rng)
    return Split(good + train, validation, tuple(defective))


def _by_name(images: Iterable[LabelledImage]) -> list[LabelledImage]:
    return sorted(images, key=lambda image: (image.kind, image.path.name))


def _draw(
    images: Sequence[LabelledImage], count: int, rng: np.random.Generator
) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """So many of the images at random, and the others, both in their order."""
    drawn = set(rng.choice(len(images), count, replace=False).tolist())
    places = range(len(images))
    return tuple(images[i] for i in places if i in drawn), tuple(images[i] for i in places if i not in drawn)
