"""SYNTHETIC images to try a detector or a segmenter on: circles, squares and triangles, drawn."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle")
_CORNERS = {"circle": 32, "square": 4, "triangle": 3}


@dataclass(frozen=True)
class Instance:
    """One drawn object, or a crowd of small ones of a class.

    Attributes:
        category: index in :data:`CLASSES`.
        mask: its pixels, ``[size, size]`` booleans; masks of an image do not overlap.
        box: x, y, width, height of the mask in pixels.
        polygon: x1, y1, x2, y2, ... in pixels; empty for a crowd.
        crowd: whether it stands for several objects.
    """

    category: int
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    polygon: tuple[float, ...]
    crowd: bool


def draw(index: int, seed: int = 0, size: int = 128) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Return an image ``[size, size, 3]`` and what is in it, always the same for the same arguments.

    Each class has a third of the hues, so that a small network learns the set in minutes. Sizes, positions, rotations,
    brightness and saturation are random, and so is the background, which has all hues.
    """
    generator = np.random.default_rng((seed, index))
    image = _background(generator, size)
    taken = np.zeros((size, size), dtype=bool)
    instances = []
    for _ in range(generator.integers(3, 7)):
        category = int(generator.integers(len(CLASSES)))
        crowd = bool(generator.random() < 0.08)
        placed = _crowd(generator, category, size, taken) if crowd else _single(generator, category, size, taken)
        if placed is None:
            continue
        mask, polygon = placed
        taken |= mask
        _paint(generator, image, mask, category)
        instances.append(Instance(category, mask, _box(mask), polygon, crowd))
    image += generator.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8), instances


def label_map(instances: list[Instance], size: int = 128) -> NDArray[np.uint8]:
    """Return the classes of all pixels, ``[size, size]``: 0 for the background, then :data:`CLASSES` from 1."""
    labels = np.zeros((size, size), dtype=np.uint8)
    for instance in instances:
        labels[instance.mask] = instance.category + 1
    return labels


def _background(generator: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Return soft clouds of colour."""
    coarse = Image.fromarray(generator.integers(40, 216, (5, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64).copy()


def _single(
    generator: np.random.Generator, category: int, size: int, taken: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[float, ...]] | None:
    """Place one form where nothing is yet; None where no room was found."""
    for _ in range(20):
        radius = generator.uniform(size / 10, size / 5)
        polygon = _polygon(generator, category, generator.uniform(radius, size - radius, 2), radius)
        mask = _filled(polygon, size)
        if not (mask & taken).any():
            return mask, polygon
    return None


def _crowd(
    generator: np.random.Generator, category: int, size: int, taken: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[float, ...]] | None:
    """Place a cluster of small forms where nothing is yet; its polygon stays empty."""
    for _ in range(20):
        centre = generator.uniform(size / 6, size * 5 / 6, 2)
        forms = [
            _polygon(generator, category, centre + generator.uniform(-size / 8, size / 8, 2), size / 24)
            for _ in range(6)
        ]
        mask = np.logical_or.reduce([_filled(form, size) for form in forms])
        if not (mask & taken).any():
            return mask, ()
    return None


def _polygon(
    generator: np.random.Generator, category: int, centre: NDArray[np.float64], radius: float
) -> tuple[float, ...]:
    corners = _CORNERS[CLASSES[category]]
    angles = generator.uniform(0, 2 * math.pi) + np.arange(corners) * 2 * math.pi / corners
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return tuple(round(float(value), 2) for value in points.ravel())


def _filled(polygon: tuple[float, ...], size: int) -> NDArray[np.bool_]:
    canvas = Image.new("1", (size, size))
    ImageDraw.Draw(canvas).polygon(polygon, fill=1)
    return np.array(canvas, dtype=bool)


def _paint(generator: np.random.Generator, image: NDArray[np.float64], mask: NDArray[np.bool_], category: int) -> None:
    """Fill with that of a few colours of the class that stands out most from what is there."""
    there = image[mask].mean(axis=0)
    hues = (category + generator.uniform(-0.5, 0.5, 8)) / len(CLASSES) % 1
    saturations, values = generator.uniform(0.5, 1, 8), generator.uniform(0.4, 1, 8)
    colours = 255 * np.array([colorsys.hsv_to_rgb(*hsv) for hsv in zip(hues, saturations, values, strict=True)])
    image[mask] = colours[np.abs(colours - there).sum(axis=1).argmax()]


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1
