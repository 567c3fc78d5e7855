"""Synthetic defects on images of good parts, so that training needs no defective ones.

A defect is a shape and a filling. Shapes: noise-shaped blobs (as in DRAEM, arXiv 2108.07610), rectangles and thin
scars (as in CutPaste, arXiv 2104.04015), strokes. Fillings: a piece of another good image or of another place
(both papers), a noise texture, a change of brightness, a local displacement, the ground. The label is what
visibly changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import ndimage

VISIBLE = 6 / 255  # a pixel is labelled defective where the image changed, around it, by more than this
SMALLEST_AREA = 12  # pixels that must have changed visibly
RADIUS = (0.02, 0.2)  # of a defect, relative to the image's shorter side
DIRT_RADIUS = (0.01, 0.06)  # likewise, of a mark on the ground that is none

Drawing = TypeVar("Drawing", bound=Callable[..., np.ndarray])


def add_defects(
    image: np.ndarray,
    donor: np.ndarray,
    part: np.ndarray,
    rng: np.random.Generator,
    radius: tuple[float, float] = RADIUS,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one to four synthetic defects on an image.

    Args:
        image: float32 [H, W, 3] in [0, 1], left as it is.
        donor: Another good image, of which defects may be made, float32 [H, W, 3].
        part: Places (row, column) where a defect may be centered, [N, 2].
        rng: Draws everything.
        radius: Of the smallest and the largest defect, relative to the image's shorter side.

    Returns:
        The new image, float32 [H, W, 3], and what visibly changed, bool [H, W].
    """
    result = image.copy()
    while True:
        for _ in range(rng.integers(1, 5)):
            _add_one(result, donor, part[rng.integers(len(part))], radius, rng)
        mask = _visible_change(image, result)
        if mask.sum() >= SMALLEST_AREA:
            return result, mask


def add_dirt(image: np.ndarray, donor: np.ndarray, ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one to three small marks that are no defects, because they are beside the part.

    Args:
        image: float32 [H, W, 3] in [0, 1], left as it is.
        donor: Another good image, float32 [H, W, 3].
        ground: Places (row, column) where a mark may be centered, [N, 2].
        rng: Draws everything.

    Returns:
        The new image, float32 [H, W, 3].
    """
    result = image.copy()
    for _ in range(rng.integers(1, 4)):
        _add_one(result, donor, ground[rng.integers(len(ground))], DIRT_RADIUS, rng)
    return result


def find_part(image: np.ndarray) -> np.ndarray:
    """Find the places that do not look like the image's border.

    The border of an image of an object shows the background, that of a texture is like the rest of it.

    Args:
        image: float32 [H, W, 3] in [0, 1].

    Returns:
        Places (row, column), [N, 2]; all of them if hardly any differ.
    """
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    middle = np.median(border, axis=0)
    spread = np.abs(border - middle).max(axis=1)
    differs = np.abs(image - middle).max(axis=2) > max(np.quantile(spread, 0.9) * 1.5, 0.06)
    differs = ndimage.binary_opening(differs, iterations=1)
    return np.argwhere(differs if differs.mean() > 0.01 else np.ones(differs.shape, dtype=bool))


@dataclass(frozen=True)
class _Spot:
    """A place on an image where a defect is to be drawn."""

    image: np.ndarray
    donor: np.ndarray
    rows: slice
    columns: slice
    shape: np.ndarray  # float32 [h, w]: 1 in the defect, 0 around it, between on its edge

    @property
    def window(self) -> np.ndarray:
        """What the image shows there, float32 [h, w, 3]; writing to it writes to the image."""
        return self.image[self.rows, self.columns]


def _add_one(
    image: np.ndarray, donor: np.ndarray, centre: np.ndarray, radius: tuple[float, float], rng: np.random.Generator
) -> None:
    reach = min(image.shape[:2]) * np.exp(rng.uniform(*np.log(radius)))
    top, left = np.clip(centre - int(2.2 * reach) - 2, 0, None)
    bottom, right = np.clip(centre + int(2.2 * reach) + 3, None, image.shape[:2])
    rows, columns = np.mgrid[top:bottom, left:right]
    turn = rng.uniform(0, 2 * np.pi)
    y, x = (rows - centre[0]) / reach, (columns - centre[1]) / reach
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    shape = _choose(SHAPES, rng)(u, v, reach, rng)
    spot = _Spot(image, donor, slice(top, bottom), slice(left, right), shape)
    filling = _choose(FILLINGS, rng)(spot, rng)
    opacity = shape * np.float32(rng.uniform(0.5, 1.0))
    spot.window[:] += opacity[..., None] * (np.clip(filling, 0, 1) - spot.window)


def _blob(u: np.ndarray, v: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    edge = 1 + 0.5 * _noise(u.shape, max(reach * rng.uniform(0.25, 0.8), 1.0), rng)
    return _soft(edge - np.hypot(u, v * rng.uniform(1, 3)), reach, rng)


def _rectangle(u: np.ndarray, v: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    half = rng.uniform(0.25, 1.0)
    return _soft(np.minimum(1 - np.abs(u), half - np.abs(v)), reach, rng)


def _stroke(u: np.ndarray, v: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    half = max(rng.uniform(0.04, 0.15), 0.8 / reach)
    off = v - rng.normal(0, 0.4) * u**2 - 0.15 * np.sin(rng.uniform(2, 6) * u)
    return _soft(np.minimum(2 - np.abs(u), half - np.abs(off)), reach, rng)


def _soft(inside: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """0..1 from a distance to the edge in units of ``reach``, positive inside, with an edge of 0.5 to 2 pixels."""
    return np.clip(inside * reach / rng.uniform(0.5, 2.0) + 0.5, 0, 1).astype(np.float32)


def _elsewhere(spot: _Spot, rng: np.random.Generator) -> np.ndarray:
    return _piece(spot.image, spot.shape.shape, rng)


def _donated(spot: _Spot, rng: np.random.Generator) -> np.ndarray:
    return _piece(spot.donor, spot.shape.shape, rng)


def _texture(spot: _Spot, rng: np.random.Generator) -> np.ndarray:
    """Noise around the colour of the place, a colour of another image made brighter or darker, or any colour."""
    place = rng.integers(spot.donor.shape[:2])
    any_colour = np.full(3, rng.uniform()) if _is_grey(spot.donor) else rng.uniform(size=3)
    colours = (spot.window.mean(axis=(0, 1)), spot.donor[tuple(place)] + rng.normal(0, 0.2), any_colour)
    grain = _noise(spot.shape.shape, np.exp(rng.uniform(0, np.log(12))), rng)
    return colours[rng.integers(3)] + rng.uniform(0.02, 0.3) * grain[..., None]


def _shade(spot: _Spot, rng: np.random.Generator) -> np.ndarray:
    """Brighter or darker; half of the time, where there are colours, of another tint, too."""
    change = rng.uniform(0.08, 0.4) * rng.choice([-1, 1])
    if _is_grey(spot.donor) or rng.random() < 0.5:
        return spot.window + change
    return spot.window + change * rng.uniform(-1, 1, size=3)


def _displace(spot: _Spot, rng: np.random.Generator) -> np.ndarray:
    way, length = rng.uniform(0, 2 * np.pi), rng.uniform(2, 8)
    rows, columns = np.mgrid[spot.rows, spot.columns]
    place = rows + length * np.sin(way) * spot.shape, columns + length * np.cos(way) * spot.shape
    channels = [ndimage.map_coordinates(spot.image[..., c], place, order=1, mode="nearest") for c in range(3)]
    return np.stack(channels, axis=2)


def _missing(spot: _Spot, rng: np.random.Generator) -> np.ndarray:
    """Return what is around the part, as if a piece of it were gone: the colour of the image's border."""
    image = spot.image
    ground = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]), axis=0)
    return ground + 0.01 * _noise(spot.shape.shape, 4.0, rng)[..., None]


SHAPES = {_blob: 0.5, _rectangle: 0.25, _stroke: 0.25}
FILLINGS = {_elsewhere: 0.2, _donated: 0.15, _texture: 0.25, _shade: 0.15, _displace: 0.15, _missing: 0.1}


def _is_grey(image: np.ndarray) -> bool:
    """Whether an image comes from a camera without colours, in which no defect has any."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return np.array_equal(red, green) and np.array_equal(red, blue)


def _choose(among: Mapping[Drawing, float], rng: np.random.Generator) -> Drawing:
    return list(among)[rng.choice(len(among), p=list(among.values()))]


def _piece(image: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a piece of the image, mirrored and turned by a multiple of 90 degrees, somewhat brighter or darker."""
    height, width = size
    extent = max(size)
    top = rng.integers(image.shape[0] - extent + 1)
    left = rng.integers(image.shape[1] - extent + 1)
    piece = np.rot90(image[top : top + extent, left : left + extent], int(rng.integers(4)))
    piece = piece[:, ::-1] if rng.random() < 0.5 else piece
    return piece[:height, :width] * np.float32(rng.uniform(0.85, 1.15))


def _noise(size: tuple[int, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit variance whose bumps are about ``scale`` pixels wide."""
    coarse = rng.normal(size=[int(np.ceil(n / scale)) + 2 for n in size]).astype(np.float32)
    rows = np.linspace(0, coarse.shape[0] - 1.001, size[0])
    columns = np.linspace(0, coarse.shape[1] - 1.001, size[1])
    return ndimage.map_coordinates(coarse, np.meshgrid(rows, columns, indexing="ij"), order=1)


def _visible_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    change = np.abs(after - before)
    largest = np.maximum(np.maximum(change[..., 0], change[..., 1]), change[..., 2])  # max(axis=2) is slow
    return ndimage.uniform_filter(largest, 3) > VISIBLE
