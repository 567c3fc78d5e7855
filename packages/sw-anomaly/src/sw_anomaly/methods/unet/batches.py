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
from sw_anomaly.methods.unet.synthetic_defects import add_defects, add_dirt, find_part
from sw_anomaly.preprocessing.view import View
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator

BESIDE = 0.02  # how far from the part the ground is, relative to the image


class Views:
    """Views in memory, their masks, and where they show the part and the ground.

    Attributes:
        pixels: Levels from 0 to 255, [N, h, w, 3]: uint8, or float32 where files are deeper than 8 bits.
        masks: bool [N, h, w].
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        view: View,
        intensity: Intensity = Intensity(),  # noqa: B008  it is frozen
        progress: Progress = silent,
    ) -> None:
        self.view = view
        self.pixels = np.empty((len(images), *view.shape, 3), dtype=np.uint8 if intensity.white is None else np.float32)
        self.masks = np.zeros((len(images), *view.shape), dtype=bool)
        shown = {}
        for index, image in enumerate(images):
            pixels, mask = image.load()
            viewed = view.apply(intensity.levels(pixels))
            self.pixels[index] = viewed.pixels
            if mask.any():
                self.masks[index] = viewed.take_mask(mask)
            if viewed.part is not None and viewed.part.any():
                shown[index] = viewed.part
            progress("reading images", index + 1, len(images))
        self.good = [index for index, image in enumerate(images) if image.is_good]
        self.defective = [index for index, image in enumerate(images) if not image.is_good]
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
        return add_defects(self.with_dirt(index, rng), donor, self.parts[index], rng)

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


def make_validation(views: Views, seed: int, at_most: int | None = None, first: int = 0) -> list[Case]:
    """Make cases that are known: each view as it is, and the good ones twice with synthetic defects.

    Args:
        views: Good and defective views.
        seed: What the defects follow from.
        at_most: Number of views.
        first: The number of the first good view among all good views of the category.
    """
    cases = []
    for index in range(len(views.pixels))[:at_most]:
        rng = generator(seed, Purpose.VALIDATION, first + index)
        origin = first + views.good.index(index) if index in views.parts else None
        cases.append(Case(views.pixels[index], views.masks[index], origin))
        for _ in range(2 if index in views.parts else 0):
            image, mask = views.with_defects(index, rng)
            levels = image * np.float32(255)
            pixels = np.rint(levels).astype(np.uint8) if views.pixels.dtype == np.uint8 else levels
            cases.append(Case(pixels, mask, origin))
    return cases
