"""A category of images: good ones to train on, and labelled ones to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sw_anomaly.data.images import load_image, load_mask
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS

GOOD = "good"


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
        """The image alone, [H, W, 3] as ``load_image`` gives it."""
        return load_image(self.path, self.max_pixels)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """The image, [H, W, 3] as ``load_image`` gives it, and its mask, bool [H, W]; all False without a mask file."""
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
    """One category of a data set: its good training images, its test images if it has any, and what is not used."""

    name: str
    train: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    left_out: tuple[LeftOut, ...] = ()


def count(things: Sequence[object], one: str, more: str = "") -> str:
    """A number of things with its noun, as in "1 image" and "3 images"; ``more`` is a plural without a mere "s"."""
    return f"{len(things)} {one if len(things) == 1 else more or one + 's'}"


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
