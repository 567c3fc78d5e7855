"""Large images as overlapping tiles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

MIN_TILE = 64  # pixels
OVERLAP = 0.2  # of a tile's side


@dataclass(frozen=True)
class Tile:
    """A part of an image, and the part of it that no other tile sees better.

    Attributes:
        rows: all of it.
        columns: all of it.
        own_rows: those that are nearer to its middle than to that of a neighbor; own parts cover an image once.
        own_columns: the same.
    """

    rows: slice
    columns: slice
    own_rows: slice
    own_columns: slice


def tiles_of(height: int, width: int, side: int) -> Iterator[Tile]:
    """Yield tiles of at most ``side`` pixels that cover an image and overlap by a fifth of a side, or more."""
    for rows, own_rows in _spans(height, side):
        for columns, own_columns in _spans(width, side):
            yield Tile(rows, columns, own_rows, own_columns)


def _spans(length: int, side: int) -> list[tuple[slice, slice]]:
    """Return equally spaced spans of ``side`` that cover ``length``, each with its own part."""
    if length <= side:
        return [(slice(0, length), slice(0, length))]
    step = side - round(OVERLAP * side)
    count = 1 + -(-(length - side) // step)
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    borders = [0, *((a + side + b) // 2 for a, b in itertools.pairwise(starts)), length]
    return [(slice(a, a + side), slice(*own)) for a, own in zip(starts, itertools.pairwise(borders), strict=True)]
