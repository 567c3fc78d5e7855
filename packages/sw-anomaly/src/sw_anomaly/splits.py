"""Which images fit a detector, which stop and threshold it, and which test it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sw_anomaly.dataset import Category, LabelledImage
from sw_anomaly.randomness import Purpose, generator

HELD_OUT = 0.12  # share of the good training images that is held out for validation
HELD_OUT_AT_MOST = 32


@dataclass(frozen=True)
class Split:
    """Three sets of images without a common one."""

    train: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]


def unsupervised_split(category: Category, seed: int) -> Split:
    """Hold some of the good training images out for validation; equal seeds hold equal ones out."""
    count = min(max(round(HELD_OUT * len(category.train)), 1), HELD_OUT_AT_MOST)
    held_out = set(generator(seed, Purpose.SPLIT).choice(len(category.train), count, replace=False).tolist())
    return Split(
        train=tuple(image for index, image in enumerate(category.train) if index not in held_out),
        validation=tuple(image for index, image in enumerate(category.train) if index in held_out),
        test=category.test,
    )


def digest(images: Iterable[LabelledImage]) -> str:
    """SHA-256 over the contents of the image files, whatever their order and names."""
    contents = sorted(hashlib.sha256(image.path.read_bytes()).digest() for image in images)
    return hashlib.sha256(b"".join(contents)).hexdigest()
