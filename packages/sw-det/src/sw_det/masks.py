"""Masks: as regions of large images, and in COCO's forms, polygons and run lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

_MOST_RUNS = 10_000_000  # of one mask


@dataclass(frozen=True)
class Region:
    """The pixels of an object, without the image around them: hundreds of masks of a large image take gigabytes.

    Attributes:
        left: first column of the image in which there is a pixel of the object.
        top: first row.
        inside: ``[h, w]``, bool: which pixels are the object's, from there on.
    """

    left: int
    top: int
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Region:
        """Return the region of a mask of the whole image, ``[H, W]``."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return cls(0, 0, np.zeros((0, 0), dtype=bool))
        return cls(int(columns[0]), int(rows[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy())

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return a view of the part of an image ``[H, W, ...]`` in which the object is."""
        height, width = self.inside.shape
        return image[self.top : self.top + height, self.left : self.left + width]

    def moved(self, left: int, top: int, scale: tuple[float, float]) -> Region:
        """Return the region in an image of which it saw a part; every pixel is that which is nearest.

        Args:
            left: of the part.
            top: of the part.
            scale: the part's columns for each of the image's, and its rows.
        """
        height, width = self.inside.shape
        first_column, columns = _spread(self.left, width, scale[0])
        first_row, rows = _spread(self.top, height, scale[1])
        return Region(left + first_column, top + first_row, self.inside[rows][:, columns])

    def run_lengths(self, height: int, width: int) -> dict[str, Any]:
        """Return COCO's compressed run lengths of the region in an image ``[height, width]``, without laying it out."""
        columns, rows = np.nonzero(self.inside.T)  # in the order in which COCO counts pixels: down the columns
        places = (self.left + columns) * height + self.top + rows
        first, last = np.diff(places, prepend=-2) != 1, np.diff(places, append=-2) != 1
        edges = np.stack([places[first], places[last] + 1], axis=1).ravel()
        counts = np.diff([0, *edges, height * width]).tolist()
        if not counts[-1]:
            counts.pop()  # the last pixel of the image is inside
        encoded = rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def _spread(start: int, count: int, scale: float) -> tuple[int, NDArray[np.intp]]:
    """Return the first place that falls into a span when scaled, and where in the span it and the next ones fall."""
    first, end = (math.ceil(place / scale - 1e-6) for place in (start, start + count))
    places = np.floor(np.arange(first, end) * scale + 1e-6).astype(np.intp) - start
    return first, places.clip(0, count - 1)


def mask_problem(segmentation: Any, height: int, width: int) -> str:
    """Return why a COCO ``segmentation`` is none, without handing it to pycocotools; "" for a good or absent one.

    Args:
        segmentation: polygons, run lengths, or None.
        height: of the image.
        width: of the image.
    """
    if segmentation is None:
        return ""
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not isinstance(polygon, list):
                return "a segmentation that is no list of polygons"
            if polygon and (len(polygon) < 6 or len(polygon) % 2):
                return f"a polygon of {len(polygon)} numbers, want x and y of three points or more"
            if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e6 for v in polygon):
                return "a polygon with something else than numbers"
        return ""
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        return f"a segmentation of type {type(segmentation).__name__}, want polygons or run lengths"
    if segmentation["size"] != [height, width]:
        return f"run lengths of size {str(segmentation['size'])[:40]}, want [{height}, {width}] of the image"
    counts = segmentation["counts"]
    if isinstance(counts, list):
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts)
        total = sum(counts) if whole else -1
    else:
        total = _pixels_of(counts) if isinstance(counts, str) else -1
    if total != height * width:
        return f"run lengths that are not of {height * width:,} pixels"
    return ""


def mask_area(segmentation: Any, height: int, width: int) -> int:
    """Return how many pixels are inside a segmentation that has no problem."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return int(rle.area(segmentation))
    if isinstance(segmentation, dict):
        return sum(segmentation["counts"][1::2])
    return int(rle.area(rle.merge(rle.frPyObjects(segmentation, height, width))))


def _pixels_of(counts: str) -> int:
    """Return the number of pixels in compressed run lengths; -1 for what pycocotools could not read safely.

    Each run is in digits of base 32 with a bit for "more" and a sign; from the fourth on it is the difference from the
    run before the last.
    """
    if len(counts) > _MOST_RUNS:
        return -1
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            return -1
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            if shift > 40:
                return -1
            continue
        if digit & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            return -1
        runs.append(value)
        value = shift = 0
    return -1 if shift else sum(runs)
