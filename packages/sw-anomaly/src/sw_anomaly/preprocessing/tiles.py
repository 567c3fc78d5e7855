"""Large images in overlapping tiles: where they lie, how much each counts, and whether an image wants them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Place = tuple[slice, slice]
OVERLAP = 0.25  # of neighboring tiles, relative to their side
LEAST_WIDTH = 3.0  # pixels that a defect must be wide in what a method sees


def place_tiles(length: int, side: int) -> list[int]:
    """Where tiles begin along a side of an image: evenly spread, overlapping by ``OVERLAP`` or more, to its end."""
    overlap = round(OVERLAP * side)
    count = max(math.ceil((length - overlap) / (side - overlap)), 1)
    return np.rint(np.linspace(0, max(length - side, 0), count)).astype(int).tolist()


def cut(shape: tuple[int, int], side: int) -> list[Place]:
    """List the tiles of an image, [H, W], row by row."""
    down, across = (place_tiles(length, side) for length in shape)
    return [(slice(top, top + side), slice(left, left + side)) for top in down for left in across]


def weighted(shape: tuple[int, int], side: int) -> Iterator[tuple[Place, np.ndarray]]:
    """Give the tiles of an image and how much each of their pixels counts, float32 [h, w]; at every pixel the sum is 1.

    A tile counts less and less towards its border, where what it shows lacks its surroundings.
    """
    down, across = (_weights(length, side) for length in shape)
    places = iter(cut(shape, side))
    for row in down:
        for column in across:
            yield next(places), row[:, None] * column


def _weights(length: int, side: int) -> list[np.ndarray]:
    starts = place_tiles(length, side)
    margin, ramp = OVERLAP * side / 4, OVERLAP * side / 2
    places = np.arange(length) + 0.5
    covers = []
    for start in starts:
        before = places - start if start else np.full(length, np.inf)
        after = start + side - places if start + side < length else np.full(length, np.inf)
        covers.append(np.clip((np.minimum(before, after) - margin) / ramp, 0, 1))
    total = np.sum(covers, axis=0)
    return [
        (cover / total)[start : start + side].astype(np.float32) for start, cover in zip(starts, covers, strict=True)
    ]


def choose_tiling(tile: str, longest: int, side: int, smallest_defect: int) -> tuple[bool, str]:
    """Decide whether images are inspected in tiles.

    Args:
        tile: ``auto``, ``on`` or ``off``.
        longest: The longer side of an image in pixels.
        side: The side of a tile, to which whole images would be scaled.
        smallest_defect: The width in pixels of the smallest defect that matters.

    Returns:
        Whether, and why.
    """
    if tile == "off" or longest <= side:
        return False, "off" if tile == "off" else f"images have at most {side} pixels along a side"
    width = smallest_defect * side / longest
    seen = f"scaled to {side} pixels a defect of {smallest_defect} pixels would be {width:.1f} wide"
    if tile == "auto" and width >= LEAST_WIDTH:
        return False, seen
    return True, f"{seen}; about {len(cut((longest, longest), side))} tiles of {side} pixels instead"
