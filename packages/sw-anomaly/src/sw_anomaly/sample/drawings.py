"""What the embedded sample shows: a bottle seen from above, a tile of coloured stone, a grid of grey wire.

Each category has a function that draws a part and its defect, if it is given one, and a function for each type of
defect: it paints on the finished picture and says where. ``x`` and ``y`` are coordinates that move with the part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

SIZE = 160  # pixels along each side of an image
HALF_WIDTH = 1.22  # of an image, where the radius of a bottle is about 1
EDGE = 1.2 * HALF_WIDTH / SIZE  # half the width of the ramp that smooths an edge: about one pixel
WIRE = 0.17  # half the thickness of a wire of the grid, in distances between wires

Defect = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def draw_bottle(defect: Defect | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a bottle seen from above.

    Args:
        defect: Draws a defect on it, None for a good one.
        rng: Draws everything that differs from one to the next.

    Returns:
        The image, uint8 [SIZE, SIZE, 3], and the mask of its defect, uint8 0/255 [SIZE, SIZE].
    """
    axis = np.linspace(-HALF_WIDTH, HALF_WIDTH, SIZE, dtype=np.float32)
    x, y = np.meshgrid(axis - rng.normal(0, 0.015), axis - rng.normal(0, 0.015))
    size = 1 + rng.normal(0, 0.008)
    x, y = x / size, y / size
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    turn = angle + rng.uniform(-np.pi, np.pi)  # glass and base turn with the bottle, the lamps do not
    lamp = rng.normal(0, 0.012)

    picture = np.empty((SIZE, SIZE, 3), dtype=np.float32)
    picture[:] = np.array([0.90, 0.90, 0.885]) + rng.normal(0, 0.006)
    picture -= (0.035 * np.hypot(x + 0.3, y + 0.2) + 0.008 * _clouds(rng, 5))[..., None]
    _paint(picture, (0.42, 0.38, 0.33), 0.55 * _inside(np.hypot(x - 0.05, y - 0.07), 1.03, 0.07))

    streaks = _clouds(rng, 9)
    _paint(picture, (0.060, 0.032, 0.022), _inside(radius, 1.0))
    _paint(picture, (0.62, 0.30, 0.075), 0.80 * _ring(radius, 0.93, 0.030) * (0.65 + 0.35 * np.cos(angle - 0.9)))
    _paint(picture, (0.20, 0.080, 0.025), _inside(radius, 0.87, 0.02) * (0.80 + 0.1 * streaks))
    caustic = 0.55 + 0.30 * np.cos(angle - 0.8 - lamp) + 0.10 * np.cos(2 * turn) + 0.07 * streaks
    _paint(picture, (0.78, 0.37, 0.07), _ring(radius, 0.705, 0.060) * caustic)
    for thread in (0.635, 0.765, 0.825):
        _paint(picture, (0.05, 0.02, 0.01), 0.7 * _ring(radius, thread + 0.006 * np.sin(turn), 0.013))
    for place, width, strength in ((-2.2, 0.34, 1.0), (0.75, 0.20, 0.6), (2.35, 0.10, 0.45)):
        beam = strength * np.exp(-((np.abs(_angle_between(angle, place + lamp)) / width) ** 4))
        _paint(picture, (0.97, 0.96, 0.94), 0.95 * beam * _ring(radius, 0.950, 0.017))
        _paint(picture, (1.00, 0.93, 0.80), 0.80 * beam * _ring(radius, 0.795, 0.016))

    _paint(picture, (0.70, 0.40, 0.13), _inside(radius, 0.585))
    _paint(picture, (0.10, 0.045, 0.02), 0.85 * _ring(radius, 0.580, 0.013))
    _paint(picture, (1.00, 0.96, 0.88), 0.90 * _ring(radius, 0.535, 0.016) * (0.7 + 0.3 * np.cos(angle + 2.2 + lamp)))
    _paint(picture, (0.26, 0.11, 0.03), _inside(radius, 0.50))
    _paint(picture, (0.90, 0.66, 0.36), _inside(radius, 0.455, 0.03) * (0.93 + 0.03 * _clouds(rng, 7)))
    _paint(picture, (0.99, 0.94, 0.82), 0.95 * np.exp(-((radius / 0.33) ** 4)))
    knurls = 0.5 + 0.5 * np.cos(40 * turn)
    _paint(picture, (0.48, 0.25, 0.08), 0.80 * knurls * _ring(radius, 0.400, 0.020))
    _paint(picture, (0.62, 0.42, 0.18), 0.45 * _ring(radius, 0.175, 0.012))
    return _finish(picture, x, y, defect, rng)


def break_large(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Break a large piece out of the mouth's rim; return where, float32 0..1."""
    return _break(picture, x, y, rng, rng.uniform(0.20, 0.30))


def break_small(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Break a chip out of the mouth's rim; return where, float32 0..1."""
    return _break(picture, x, y, rng, rng.uniform(0.075, 0.12))


def contaminate(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Something lies in the mouth, a lump or a fibre; returns where, float32 0..1."""
    distance, place = 0.40 * np.sqrt(rng.uniform(0, 0.8)), rng.uniform(-np.pi, np.pi)
    u, v = _local(x - distance * np.cos(place), y - distance * np.sin(place), rng.uniform(-np.pi, np.pi))
    if rng.random() < 0.5:
        edge = 1 + 0.30 * _clouds(rng, 12)
        shape = _inside(np.hypot(u, v * rng.uniform(1.0, 1.7)) / edge, rng.uniform(0.07, 0.15), 0.008)
    else:
        bend, wave = rng.normal(0, 2.0), rng.uniform(8, 14)
        off = np.abs(v - bend * u**2 - 0.012 * np.sin(wave * u))
        shape = _inside(off, rng.uniform(0.012, 0.022), 0.006) * _inside(np.abs(u), rng.uniform(0.14, 0.26), 0.01)
    tones = ((0.20, 0.17, 0.13), (0.34, 0.36, 0.30), (0.52, 0.20, 0.12), (0.93, 0.95, 0.97))
    tone = np.array(tones[rng.integers(len(tones))]) + rng.normal(0, 0.02, 3)
    relief = 0.10 * (v / 0.1).clip(-1, 1) + 0.05 * _clouds(rng, 60)
    _paint(picture, tone - relief[..., None], 0.95 * shape)
    return shape


def _break(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    place = rng.uniform(-np.pi, np.pi)
    u, v = _local(x - 0.545 * np.cos(place), y - 0.545 * np.sin(place), place)
    corners = np.sort(rng.uniform(-np.pi, np.pi, 11))
    outline = np.interp(np.arctan2(v, u), corners, size * rng.uniform(0.55, 1.25, 11), period=2 * np.pi)
    inwards = outline - np.hypot(u * 1.25, v)  # distance to the edge of the break, positive in it
    shape = _inside(-inwards, 0.0)

    facets = max(5, int(60 * size))
    seeds = rng.uniform(-1.2 * size, 1.2 * size, (facets, 2))
    stretch = rng.uniform(1.2, 2.2)  # shards are longer along the rim than across
    distances = np.stack([np.hypot((u - a) * stretch, v - b) for a, b in seeds])
    closeness = np.exp((distances.min(axis=0) - distances) / EDGE)
    tones = np.array(
        [(0.09, 0.04, 0.02), (0.24, 0.10, 0.03), (0.50, 0.25, 0.07), (0.80, 0.55, 0.25), (0.96, 0.92, 0.84)]
    )
    tone = tones[rng.choice(len(tones), facets, p=[0.28, 0.30, 0.22, 0.12, 0.08])]
    facet = np.tensordot(closeness / closeness.sum(axis=0), tone, axes=(0, 0))
    gleam = 0.10 * np.sin(rng.uniform(3, 6) * (u * rng.normal() + v * rng.normal()) / size + rng.uniform(0, 6))
    _paint(picture, np.clip(facet + gleam[..., None], 0, 1), shape)
    _paint(picture, (1.0, 0.96, 0.88), 0.85 * shape * _inside(inwards, 0.010))
    return shape


def draw_tile(defect: Defect | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a tile of colored chips in cement.

    Args:
        defect: Draws a defect on it, None for a good one.
        rng: Draws everything that differs from one to the next.

    Returns:
        The image, uint8 [SIZE, SIZE, 3], and the mask of its defect, uint8 0/255 [SIZE, SIZE].
    """
    axis = np.linspace(-HALF_WIDTH, HALF_WIDTH, SIZE, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    tones = np.array(
        [(0.62, 0.30, 0.22), (0.83, 0.76, 0.64), (0.35, 0.40, 0.38), (0.72, 0.52, 0.33), (0.24, 0.22, 0.24)]
    )
    chips = rng.uniform(-1.1 * HALF_WIDTH, 1.1 * HALF_WIDTH, (330, 2))
    chip_tones = tones[rng.choice(len(tones), len(chips), p=[0.22, 0.30, 0.18, 0.2, 0.1])]
    chip_tones = chip_tones + rng.normal(0, 0.025, chip_tones.shape)
    distances, nearest = KDTree(chips).query(np.stack([x + 0.02 * _clouds(rng, 24), y], axis=-1), k=2)
    inside = _inside(-(distances[..., 1] - distances[..., 0]), -0.035)  # chips do not quite touch

    picture = np.empty((SIZE, SIZE, 3), dtype=np.float32)
    picture[:] = np.array([0.70, 0.68, 0.63]) + 0.02 * _clouds(rng, 60)[..., None]
    _paint(picture, chip_tones[nearest[..., 0]] + 0.02 * _clouds(rng, 30)[..., None], 0.92 * inside)
    return _finish(picture, x, y, defect, rng)


def crack(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a jagged crack across; return where, float32 0..1."""
    u, v = _local(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5), rng.uniform(-np.pi, np.pi))
    places = np.linspace(-1, 1, 24)
    path = np.interp(u, places, np.cumsum(rng.normal(0, 0.045, places.size)))
    width = rng.uniform(0.014, 0.022) * np.interp(u, places, rng.uniform(0.6, 1.4, places.size))
    shape = _inside(np.abs(v - path), width) * _inside(np.abs(u), rng.uniform(0.35, 0.8))
    _paint(picture, (0.09, 0.08, 0.08), 0.92 * shape)
    return shape


def stain(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Oil has soaked in; returns where, float32 0..1."""
    u, v = _local(x - rng.uniform(-0.8, 0.8), y - rng.uniform(-0.8, 0.8), rng.uniform(-np.pi, np.pi))
    edge = 1 + 0.18 * _clouds(rng, 9)
    shape = _inside(np.hypot(u, v * rng.uniform(1.0, 1.6)) / edge, rng.uniform(0.16, 0.32), 0.02)
    _paint(picture, picture * np.array([0.50, 0.44, 0.34]), shape)
    return shape


def glue(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a strip of milky glue; return where, float32 0..1."""
    u, v = _local(x - rng.uniform(-0.6, 0.6), y - rng.uniform(-0.6, 0.6), rng.uniform(-np.pi, np.pi))
    rough = 0.02 * _clouds(rng, 14)
    half = rng.uniform(0.06, 0.11)
    shape = _inside(np.abs(v) + rough, half) * _inside(np.abs(u) + rough, rng.uniform(0.25, 0.5))
    _paint(picture, (0.93, 0.91, 0.86), shape * (0.55 + 0.3 * (np.abs(v) > 0.7 * half)))
    return shape


def draw_grid(defect: Defect | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a woven wire grid, in grey.

    Coordinates count wires: those of one direction lie at whole x, those of the other at whole y.

    Args:
        defect: Draws a defect on it, None for a good one.
        rng: Draws everything that differs from one to the next.

    Returns:
        The image, uint8 [SIZE, SIZE, 3], and the mask of its defect, uint8 0/255 [SIZE, SIZE].
    """
    pixels = np.arange(SIZE, dtype=np.float32)
    columns, rows = np.meshgrid(pixels, pixels)
    x, y = _local(columns / 17, rows / 17, np.pi / 4 + rng.normal(0, 0.02))
    scale = 1 + rng.normal(0, 0.01)
    x, y = x * scale + rng.uniform(0, 2) + 20, y * scale + rng.uniform(0, 2) + 20
    tone = 0.24 + 0.02 * _clouds(rng, 6) + rng.normal(0, 0.01)
    under = np.cos(np.pi * np.round(x)) * np.cos(np.pi * y)  # which of two crossing wires lies above
    for offset, above in ((x - np.round(x), 1.0), (y - np.round(y), -1.0)):
        wire = np.exp(-0.5 * (offset / WIRE) ** 4)
        shine = 0.62 + 0.12 * above * under - 0.5 * offset
        tone = tone + wire * (shine - tone) * (0.88 + 0.12 * above * under)
    picture = np.repeat(tone[..., None], 3, axis=2).astype(np.float32)
    return _finish(picture, x, y, defect, rng)


def bend(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wires are pushed aside; returns where, float32 0..1."""
    row, column = rng.uniform(0.2 * SIZE, 0.8 * SIZE, 2)
    reach, push, way = rng.uniform(12, 18), rng.uniform(6, 9), rng.uniform(-np.pi, np.pi)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    pushed = push * np.exp(-(((rows - row) ** 2 + (columns - column) ** 2) / reach**2))
    place = rows + pushed * np.sin(way), columns + pushed * np.cos(way)
    before = picture.copy()
    for channel in range(3):
        picture[..., channel] = ndimage.map_coordinates(before[..., channel], place, order=1, mode="reflect")
    return _inside(-pushed, -0.7, 0.1)


def snap(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pieces of one or two neighbouring wires are missing; returns where, float32 0..1."""
    row, column = rng.integers(SIZE // 4, 3 * SIZE // 4, 2)
    wire, place = np.round(x[row, column]), y[row, column]
    shape = np.zeros_like(x)
    for number in range(rng.integers(1, 3)):
        across, along = np.abs(x - wire - number), np.abs(y - place - rng.normal(0, 0.2))
        shape = np.maximum(shape, _inside(across, 1.6 * WIRE, 0.05) * _inside(along, rng.uniform(0.45, 0.8), 0.05))
    _paint(picture, np.full(3, 0.24 + rng.normal(0, 0.01)), shape)
    return shape


def entangle(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a pale thread caught in the wires; return where, float32 0..1."""
    row, column = rng.integers(SIZE // 4, 3 * SIZE // 4, 2)
    u, v = _local(x - x[row, column], y - y[row, column], rng.uniform(-np.pi, np.pi))
    off = np.abs(v - 0.35 * np.sin(rng.uniform(1.2, 2.2) * u + rng.uniform(0, 6)) - rng.normal(0, 0.12) * u**2)
    shape = _inside(off, rng.uniform(0.10, 0.16), 0.05) * _inside(np.abs(u), rng.uniform(1.2, 2.4), 0.1)
    _paint(picture, np.full(3, 0.93), 0.95 * shape)
    return shape


CATEGORIES: dict[
    str, tuple[Callable[[Defect | None, np.random.Generator], tuple[np.ndarray, np.ndarray]], dict[str, Defect]]
]
CATEGORIES = {
    "bottle": (
        draw_bottle,
        {"broken_large": break_large, "broken_small": break_small, "contamination": contaminate},
    ),
    "tile": (draw_tile, {"crack": crack, "glue": glue, "oil": stain}),
    "grid": (draw_grid, {"bent": bend, "broken": snap, "thread": entangle}),
}


def _finish(
    picture: np.ndarray, x: np.ndarray, y: np.ndarray, defect: Defect | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the defect, light and noise; the image and the mask as uint8."""
    shape = np.zeros((SIZE, SIZE), dtype=np.float32) if defect is None else defect(picture, x, y, rng)
    picture *= 1 + rng.normal(0, 0.02) + 0.010 * _clouds(rng, 40)[..., None]
    grain = picture.shape if (picture != picture[..., :1]).any() else (SIZE, SIZE, 1)  # grey stays grey
    picture += rng.normal(0, 0.008, grain)
    return np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8), np.where(shape > 0.5, 255, 0).astype(np.uint8)


def _paint(picture: np.ndarray, colour: tuple[float, ...] | np.ndarray, opacity: np.ndarray) -> None:
    picture += np.clip(opacity, 0, 1, dtype=np.float32)[..., None] * (np.asarray(colour, dtype=np.float32) - picture)


def _inside(distance: np.ndarray, edge: float, softness: float = EDGE) -> np.ndarray:
    """1 where the distance is smaller than the edge, 0 where it is larger, smooth over about ``softness``."""
    return 0.5 - 0.5 * np.tanh((distance - edge) / softness)


def _ring(radius: np.ndarray, middle: float | np.ndarray, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((radius - middle) / width) ** 2)


def _angle_between(angle: np.ndarray, other: float) -> np.ndarray:
    return (angle - other + np.pi) % (2 * np.pi) - np.pi


def _local(x: np.ndarray, y: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _clouds(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of unit variance with about ``cells`` bumps along each side, float32 [SIZE, SIZE]."""
    coarse = rng.normal(size=(cells + 3, cells + 3)).astype(np.float32)
    return ndimage.zoom(coarse, SIZE / (cells + 3), order=1, grid_mode=True, mode="nearest")
