"""What training and validation see: good images, most of them with synthetic defects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sw_anomaly.augment import augment
from sw_anomaly.dataset import LabelledImage
from sw_anomaly.defects import add_defects, find_part
from sw_anomaly.detector import network_input, resize, to_tensor
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator


class GoodImages:
    """Good images in memory, uint8 [N, S, S, 3], their median, and the places where each shows the part."""

    def __init__(self, images: Sequence[LabelledImage], size: int, progress: Progress = silent) -> None:
        self.pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
        self.parts = []
        for index, image in enumerate(images):
            self.pixels[index] = resize(image.load()[0], size)
            self.parts.append(find_part(self.get(index)))
            progress("reading images", index + 1, len(images))
        self.median = np.median(self.pixels, axis=0).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def get(self, index: int) -> np.ndarray:
        """An image as float32 [S, S, 3] in [0, 1]."""
        return self.pixels[index].astype(np.float32) / 255

    def get_defective(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An image with synthetic defects, and their mask, bool [S, S]."""
        return add_defects(self.get(index), self.get(int(rng.integers(len(self)))), self.parts[index], rng)


def make_batch(good: GoodImages, size: int, seed: int, number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The batch of this number: network input [size, 6, S, S] and masks [size, 1, S, S]; one in four has no defect."""
    images, masks = [], []
    for place in range(size):
        rng = generator(seed, Purpose.DEFECTS, number * size + place)
        index = int(rng.integers(len(good)))
        if place % 4:
            image, mask = good.get_defective(index, rng)
        else:
            image, mask = good.get(index), np.zeros(good.pixels.shape[1:3], dtype=bool)
        images.append(image)
        masks.append(mask)
    moved, references, moved_masks = augment(
        to_tensor(np.stack(images), device),
        to_tensor(np.stack([good.median] * size), device),
        torch.from_numpy(np.stack(masks))[:, None].to(device, torch.float32),
        torch.Generator().manual_seed(int(generator(seed, Purpose.AUGMENTATION, number).integers(2**63))),
    )
    return network_input(moved, references), moved_masks


def make_validation(good: GoodImages, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each image as it is, and twice with synthetic defects: uint8 [S, S, 3] and mask, bool [S, S]."""
    cases = []
    for index in range(len(good)):
        rng = generator(seed, Purpose.VALIDATION, index)
        cases.append((good.pixels[index], np.zeros(good.pixels.shape[1:3], dtype=bool)))
        for _ in range(2):
            image, mask = good.get_defective(index, rng)
            cases.append((np.rint(image * 255).astype(np.uint8), mask))
    return cases
