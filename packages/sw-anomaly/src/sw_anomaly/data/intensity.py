"""The one scale of intensity that all images of a category are read on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sw_anomaly.data.category import LabelledImage
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError

BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras; files deeper than 8 bits hold any of them


@dataclass(frozen=True)
class Intensity:
    """What the values of image files mean, for all images of one category.

    Attributes:
        white: The value in files deeper than 8 bits that is white. None if training saw files of 8 bits only, whose
            white is always 255.
    """

    white: float | None = None

    @property
    def bit_depth(self) -> int | None:
        """Bits in use in files; None where the scale is not that of whole numbers."""
        bits = math.log2((self.white or 255) + 1)
        return int(bits) if bits.is_integer() and bits > 1 else None

    def levels(self, image: np.ndarray) -> np.ndarray:
        """Scale an image so that black is 0 and white is 255.

        Args:
            image: What ``load_image`` gave, [H, W, 3].

        Returns:
            uint8 if training saw files of 8 bits only, else float32 with all that the file holds; brighter than white
            stays brighter than 255.

        Raises:
            InputError: If the file is deeper than what training saw, or holds values that are not finite.
        """
        if image.dtype == np.uint8:
            return image if self.white is None else image.astype(np.float32)
        if self.white is None:
            raise InputError(
                f"image: got {image.dtype} values, want 8-bit ones, the only ones with a scale from training; "
                "fit a detector to images of this depth"
            )
        if not np.isfinite(image).all():
            raise InputError("image: got values that are not finite, want numbers")
        return np.maximum(image * np.float32(255 / self.white), 0, dtype=np.float32)

    def displayed(self, image: np.ndarray) -> np.ndarray:
        """Return the levels of an image rounded to uint8, to be looked at."""
        levels = self.levels(image)
        return levels if levels.dtype == np.uint8 else np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def learn_intensity(
    images: Iterable[LabelledImage], bit_depth: int | None = None, progress: Progress = silent
) -> Intensity:
    """Find the scale of the images of a category.

    Args:
        images: The training images.
        bit_depth: Bits in use in files deeper than 8 bits, if that is known.
        progress: Told of every image.

    Returns:
        The stated scale, else that of the smallest of ``BIT_DEPTHS`` that holds every value in the images, or a white
        of 1 if all are fractions.

    Raises:
        InputError: If an image holds more than ``bit_depth`` bits, or cannot be decoded.
    """
    images = list(images)
    highest: float | None = None
    stated = None if bit_depth is None else float(2**bit_depth - 1)
    for number, image in enumerate(images, start=1):
        pixels = image.pixels()
        if pixels.dtype != np.uint8:
            if not np.isfinite(pixels).all():
                raise InputError(f"{image.path}: got values that are not finite, want numbers")
            top = float(pixels.max())
            highest = max(highest or 0.0, top)
            if stated is not None and top > stated:
                raise InputError(f"--bit-depth: got {bit_depth}, want more: {image.path} holds values up to {top:g}")
            if np.issubdtype(pixels.dtype, np.integer):
                highest = max(highest, 2.0)  # whole numbers are no fractions, however dark the image
        progress("looking at intensities", number, len(images))
    if highest is None or stated is not None:
        return Intensity(stated)
    if highest <= 1:
        return Intensity(1.0)
    return Intensity(next((float(2**bits - 1) for bits in BIT_DEPTHS if highest < 2**bits), highest))
