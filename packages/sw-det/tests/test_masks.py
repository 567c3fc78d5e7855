"""Regions: masks without the image around them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sw_det.detector import Detections
from sw_det.masks import Region

from conftest import run_lengths


def ellipse(seed: int, height: int, width: int) -> np.ndarray:
    """Return a mask with one object somewhere, which may touch the edges."""
    generator = np.random.default_rng(seed)
    center = int(generator.integers(width)), int(generator.integers(height))
    axes = int(generator.integers(4, 20)), int(generator.integers(4, 20))
    return cv2.ellipse(np.zeros((height, width), np.uint8), center, axes, 30, 0, 360, 1, -1) > 0


def laid(region: Region, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    region.cut(mask)[...] = region.inside
    return mask


@pytest.mark.parametrize("seed", range(20))
def test_a_region_holds_the_mask_and_no_more(seed: int) -> None:
    mask = ellipse(seed, 40, 60)
    region = Region.of(mask)
    assert (laid(region, 40, 60) == mask).all()
    assert region.inside[[0, -1]].any(axis=1).all()
    assert region.inside[:, [0, -1]].any(axis=0).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [(60, 40), (120, 80), (163, 107)])
def test_a_region_of_a_part_is_moved_as_its_mask_would_be(seed: int, size: tuple[int, int]) -> None:
    mask, (width, height) = ellipse(seed, 40, 60), size
    wanted = np.zeros((height + 5, width + 7), dtype=bool)
    wanted[5:, 7:] = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    found = Region.of(mask).moved(7, 5, (60 / width, 40 / height))
    assert (laid(found, *wanted.shape) == wanted).all()
    assert not Region.of(np.zeros((40, 60), dtype=bool)).moved(7, 5, (0.5, 0.5)).inside.size


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_of_a_region_are_those_of_its_mask(seed: int) -> None:
    mask = ellipse(seed, 40, 60)
    assert Region.of(mask).run_lengths(40, 60) == run_lengths(mask)


@pytest.mark.parametrize("inside", [0, 1])
def test_run_lengths_of_nothing_and_of_everything(inside: int) -> None:
    mask = np.full((7, 5), inside, dtype=bool)
    assert Region.of(mask).run_lengths(7, 5) == run_lengths(mask)


def test_masks_are_tensors_of_the_whole_image() -> None:
    masks = np.stack([ellipse(seed, 40, 60) for seed in range(3)] + [np.zeros((40, 60), dtype=bool)])
    regions = tuple(Region.of(mask) for mask in masks)
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    found = Detections(image, torch.zeros(4, 4), torch.ones(4), torch.zeros(4, dtype=torch.int64), regions, ("thing",))
    assert found.masks is not None
    assert found.masks.dtype == torch.bool
    assert (found.masks.numpy() == masks).all()
    assert [annotation["area"] for annotation in found.to_coco()] == masks.sum(axis=(1, 2)).tolist()
    assert (np.asarray(found.draw()).any(axis=2) | ~masks.any(axis=0)).all()
