"""How an image comes before a method: scaled to a square, or its part cut out in one pose for all images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sw_anomaly.preprocessing import pose
from sw_anomaly.preprocessing.pose import Crop, Pose


@dataclass(frozen=True)
class Viewed:
    """What a method sees of an image, levels [h, w, 3] of type uint8 or float32, and the way back.

    ``part``, bool [h, w], is where it shows the part, if that is known. ``take_mask`` cuts the same view out of a mask
    of the image, bool [H, W]; ``put_back`` lays a map of the view, float32 [h, w], over the image: float32 [H, W].
    """

    pixels: np.ndarray
    part: np.ndarray | None
    take_mask: Callable[[np.ndarray], np.ndarray]
    put_back: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class View:
    """The view that a method has of the images of one category.

    Without a ``crop`` images are scaled to squares of ``image_size`` pixels. With one they are scaled down until the
    longer side has ``image_size`` pixels, and the crop is taken around the part. In ``tiles`` they stay as they are,
    and are mirrored at their border where they are smaller than a tile of ``image_size`` pixels.
    """

    image_size: int
    crop: Crop | None = None
    tiles: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a view, or of a tile of it."""
        return (self.crop.height, self.crop.width) if self.crop else (self.image_size, self.image_size)

    def apply(self, image: np.ndarray) -> Viewed:
        """View an image, levels [H, W, 3] of any size, of type uint8 or float32."""
        height, width = image.shape[:2]
        if self.tiles:
            lacking = [(0, max(self.image_size - side, 0)) for side in (height, width)]
            return Viewed(
                np.pad(image, [*lacking, (0, 0)], mode="symmetric") if np.any(lacking) else image,
                None,
                lambda mask: np.pad(mask, lacking, mode="symmetric"),
                lambda heat: heat[:height, :width],
            )
        if self.crop is None:
            square = (self.image_size, self.image_size)
            return Viewed(
                scale(image, square),
                None,
                lambda mask: _scale_mask(mask, square),
                lambda heat: scale(heat, (height, width)),
            )
        crop, small = self.crop, scale_down(image, self.image_size)
        where = pose.find_pose(small) or _upright_in_the_middle(small.shape[:2], crop)
        return Viewed(
            pose.take(small, where, crop),
            pose.take_mask(where.silhouette, where, crop),
            lambda mask: pose.take_mask(_scale_mask(mask, small.shape[:2]), where, crop),
            lambda heat: scale(pose.put_back(heat, where, crop, small.shape[:2]), (height, width)),
        )


def choose_image_size(shape: tuple[int, int]) -> int:
    """Return the longer side of an image, [H, W], as a multiple of 32, from 64 to 320: what a CPU trains in minutes."""
    return min(max(round(max(shape) / 32) * 32, 64), 320)


def scale_down(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image, [H, W, 3], so that its longer side has at most ``size`` pixels."""
    factor = min(size / max(image.shape[:2]), 1.0)
    return scale(image, (max(round(image.shape[0] * factor), 1), max(round(image.shape[1] * factor), 1)))


def scale(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Scale pixels [H, W] or [H, W, 3], of type uint8 or float32, to another ``shape``."""
    if pixels.shape[:2] == shape:
        return pixels
    if pixels.dtype == np.float32 and pixels.ndim == 3:  # which Pillow has no mode for
        return np.stack([scale(channel, shape) for channel in np.moveaxis(pixels, 2, 0)], axis=2)
    return np.array(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BILINEAR))


def _scale_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return scale(mask.astype(np.float32), shape) > 0.5


def _upright_in_the_middle(shape: tuple[int, int], crop: Crop) -> Pose:
    """Where to look in an image in which no part is found; it is likely to look like no good part there."""
    length, middle = crop.height - 2 * crop.margin, np.array(shape) / 2
    start, downwards = middle - [length / 2, 0], np.array([1.0, 0.0])
    return Pose(start, downwards, length, crop.width, np.array(crop.ground), np.zeros(shape, dtype=bool))
