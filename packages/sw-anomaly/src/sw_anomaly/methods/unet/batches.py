"""What training and validation see: views of good parts, most of them with defects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from sw_anomaly.data.category import LabelledImage
from sw_anomaly.data.intensity import Intensity
from sw_anomaly.methods.calibration import Case
from sw_anomaly.methods.unet.augment import augment
from sw_anomaly.methods.unet.method import network_input, to_tensor
from sw_anomaly.methods.unet.synthetic_defects import RADIUS, add_defects, add_dirt, find_part
from sw_anomaly.preprocessing.tiles import cut
from sw_anomaly.preprocessing.view import View
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator

TILES = 1500  # in memory, half a gigabyte of 320 pixels
BESIDE = 0.02  # how far from the part the ground is, relative to the image


class Views:
    """Views in memory, their masks, and where they show the part and the ground.

    Of views in tiles so many tiles are kept that all together are ``TILES`` at most, drawn anew for each image.

    Attributes:
        pixels: Levels from 0 to 255, [N, h, w, 3]: uint8, or float32 where files are deeper than 8 bits.
        masks: bool [N, h, w].
        origins: The number of the good image that each view shows, counted from ``first``; None of defective ones.
        radius: Of synthetic defects, relative to a view's shorter side.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        view: View,
        intensity: Intensity = Intensity(),  # noqa: B008  it is frozen
        progress: Progress = silent,
        first: int = 0,
        at_most: int = TILES,
        radius: tuple[float, float] = RADIUS,
    ) -> None:
        self.view, self.radius = view, radius
        each = max(at_most // max(len(images), 1), 1) if view.tiles else 1
        count, depth = len(images) * each, np.uint8 if intensity.white is None else np.float32
        self.pixels = np.empty((count, *view.shape, 3), dtype=depth)
        self.masks = np.zeros((count, *view.shape), dtype=bool)
        self.origins: list[int | None] = []
        shown = {}
        for number, image in enumerate(images):
            pixels, mask = image.load()
            viewed = view.apply(intensity.levels(pixels))
            taken = viewed.take_mask(mask) if mask.any() else np.zeros(viewed.pixels.shape[:2], dtype=bool)
            places = cut(taken.shape, view.image_size) if view.tiles else [(slice(None), slice(None))]
            if not image.is_good:
                places = [place for place in places if taken[place].any()] or places
            drawn = generator(0, Purpose.TILES, number).permutation(len(places))[:each]
            origin = first if image.is_good else None
            first += image.is_good
            for place in (places[draw] for draw in drawn):
                index = len(self.origins)
                self.pixels[index], self.masks[index] = viewed.pixels[place], taken[place]
                if viewed.part is not None and viewed.part.any():
                    shown[index] = viewed.part
                self.origins.append(origin)
            progress("reading images", number + 1, len(images))
        self.pixels, self.masks = self.pixels[: len(self.origins)], self.masks[: len(self.origins)]
        self.good = [index for index, origin in enumerate(self.origins) if origin is not None]
        self.defective = [index for index, origin in enumerate(self.origins) if origin is None]
        self.parts = {
            index: (np.argwhere(shown[index]) if index in shown else find_part(self.get(index))).astype(np.int16)
            for index in self.good
        }
        beside = round(BESIDE * view.image_size)
        self.grounds = {
            index: np.argwhere(~ndimage.binary_dilation(part, iterations=beside)).astype(np.int16)
            for index, part in shown.items()
        }

    def median(self) -> np.ndarray:
        """Return the median of the good views, [h, w, 3], of the type of ``pixels``."""
        return np.median(self.pixels[self.good], axis=0).astype(self.pixels.dtype)

    def get(self, index: int) -> np.ndarray:
        """Return a view as float32 [h, w, 3] in [0, 1]."""
        return self.pixels[index].astype(np.float32) / 255

    def draw_good(self, rng: np.random.Generator) -> int:
        """Return the index of one of the good views."""
        return self.good[rng.integers(len(self.good))]

    def with_defects(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw a good view with synthetic defects, float32 [h, w, 3], and their mask, bool [h, w]."""
        donor = self.get(self.draw_good(rng))
        return add_defects(self.with_dirt(index, rng), donor, self.parts[index], rng, self.radius)

    def with_dirt(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a good view, float32 [h, w, 3], half of the time with marks on the ground, where that is known."""
        image = self.get(index)
        if len(self.grounds.get(index, ())) == 0 or rng.random() < 0.5:
            return image
        return add_dirt(image, image, self.grounds[index], rng)


def make_batch(
    views: Views, reference: np.ndarray, size: int, seed: int, number: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Make the batch of this number: network input [size, 6, h, w] and masks [size, 1, h, w].

    Of four samples one has no defect; one has a real one, if there are any, and the others synthetic ones.
    """
    images, masks = [], []
    for place in range(size):
        rng = generator(seed, Purpose.DEFECTS, number * size + place)
        index = views.draw_good(rng)
        if place % 4 == 0:
            image, mask = views.with_dirt(index, rng), views.masks[index]
        elif place % 4 == 1 and views.defective:
            index = views.defective[rng.integers(len(views.defective))]
            image, mask = views.get(index), views.masks[index]
        else:
            image, mask = views.with_defects(index, rng)
        images.append(image)
        masks.append(mask)
    moved, references, moved_masks = augment(
        to_tensor(np.stack(images), device),
        to_tensor(np.stack([reference] * size), device) / 255,
        torch.from_numpy(np.stack(masks))[:, None].to(device, torch.float32),
        torch.Generator().manual_seed(int(generator(seed, Purpose.AUGMENTATION, number).integers(2**63))),
        aligned=views.view.crop is not None,
    )
    return network_input(moved, references), moved_masks


def make_validation(views: Views, seed: int, at_most: int | None = None) -> list[Case]:
    """Make cases that are known: each view as it is, and the good ones twice with synthetic defects.

    Args:
        views: Good and defective views.
        seed: What the defects follow from.
        at_most: Number of views.
    """
    cases = []
    first = min((origin for origin in views.origins if origin is not None), default=0)
    chosen = range(len(views.origins))
    if at_most is not None:  # the first ones; tiles of all images
        chosen = chosen[:: max(len(chosen) // at_most, 1) if views.view.tiles else 1][:at_most]
    for index in chosen:
        origin = views.origins[index]
        rng = generator(seed, Purpose.VALIDATION, first + index)
        cases.append(Case(views.pixels[index], views.masks[index], origin))
        for _ in range(0 if origin is None else 2):
            image, mask = views.with_defects(index, rng)
            levels = image * np.float32(255)
            pixels = np.rint(levels).astype(np.uint8) if views.pixels.dtype == np.uint8 else levels
            cases.append(Case(pixels, mask, origin))
    return cases
