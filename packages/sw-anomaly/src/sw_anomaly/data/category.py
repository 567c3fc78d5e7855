"""A category of images: good ones to train on, and labelled ones to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from sw_anomaly.data.images import load_image, load_mask
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS

GOOD = "good"
GOOD_NAMES = frozenset({GOOD, "ok", "normal"})  # what others call it
HELD_OUT = 0.2  # share of the good images that is tested on, where nothing says which are


@dataclass(frozen=True)
class LabelledImage:
    """An image file, what it shows, and where that is defective.

    Attributes:
        path: The file.
        kind: ``good``, or the name of its type of defect.
        mask_path: The file of its mask, if it has one.
        max_pixels: The largest image or mask that is decoded.
    """

    path: Path
    kind: str
    mask_path: Path | None = None
    max_pixels: int = MAX_PIXELS

    @property
    def is_good(self) -> bool:
        """Whether the part is free of defects."""
        return self.kind == GOOD

    def pixels(self) -> np.ndarray:
        """Return the image alone, [H, W, 3] as ``load_image`` gives it."""
        return load_image(self.path, self.max_pixels)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, [H, W, 3], and its mask, bool [H, W]; all False without a mask file."""
        image = self.pixels()
        if self.mask_path is None:
            return image, np.zeros(image.shape[:2], dtype=bool)
        mask = load_mask(self.mask_path, self.max_pixels)
        if mask.shape != image.shape[:2]:
            raise InputError(
                f"mask {self.mask_path} is {_size(mask)}, but its image {self.path.name} is {_size(image)}: "
                "they must be of one size"
            )
        return image, mask


@dataclass(frozen=True)
class LeftOut:
    """A file, or a folder, of a category that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Category:
    """One category of a data set.

    Attributes:
        name: The category.
        train: Good images to train on.
        test: Images to test on, if there are any.
        left_out: What is not used.
        layout: How the images lie.
    """

    name: str
    train: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    left_out: tuple[LeftOut, ...] = ()
    layout: str = "MVTec AD"

    @property
    def has_masks(self) -> bool:
        """Whether it is known where defective test images are defective."""
        return all(image.is_good or image.mask_path for image in self.test)


def is_good(name: str) -> bool:
    """Whether a folder or a label of this name is that of good parts."""
    return name.casefold() in GOOD_NAMES


def hold_out(good: Sequence[LabelledImage]) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Draw which good images are trained on and which are tested on, where nothing says so.

    A fifth is tested on: those whose names have the lowest digests, so that most stay what they are when images come
    in.

    Args:
        good: At least three good images.

    Returns:
        Those to train on, and those to test on, in their order.

    Raises:
        InputError: If there are fewer.
    """
    if len(good) < 3:
        raise InputError(f"good images: got {len(good)}, want 3, two to train on and one to test on")
    digests = {image: sha256(image.path.name.encode()).digest() for image in good}
    tested = set(sorted(good, key=lambda image: digests[image])[: max(round(HELD_OUT * len(good)), 1)])
    return [image for image in good if image not in tested], [image for image in good if image in tested]


def count(things: Sequence[object], one: str, more: str = "") -> str:
    """Return a number with its noun, as in "1 image" and "3 images"; ``more`` is a plural without a mere "s"."""
    return f"{len(things)} {one if len(things) == 1 else more or one + 's'}"


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
