"""Thresholds and units that follow from good training views and synthetic defects on them.

Methods that remember views judge each of these without what they remember of it, so that all are held out. Of a
trained network only some are; it gives the others much the same scores, for it has seen each of them moved and lit in
many ways, and all of them count. That costs one inspection of each view, ``INSPECTED`` at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from sw_anomaly.methods.base import Inspection, MemoryMethod, Method
from sw_anomaly.methods.ensemble import Ensemble, add, find_units
from sw_anomaly.metrics.ranking import Ranking, rank_pixels
from sw_anomaly.metrics.thresholds import GoodScores, balance
from sw_anomaly.progress import Progress, silent

INSPECTED = 1000  # good views, at most
INSPECTED_IN_TILES = 64  # likewise, of views that are inspected in tiles
MAP_SIDE = 1024  # pixels along a map, of which no more count
PIXELS_OF = 32  # good views, whose pixels count for the threshold of pixels beside those of views with defects


class GoodViews(Protocol):
    """Good views by their numbers, levels [h, w, 3] each."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> np.ndarray:
        """One of them."""


class Case(NamedTuple):
    """A view, levels [h, w, 3], its mask, bool [h, w], and the number of the good view that it shows, if it does."""

    view: np.ndarray
    mask: np.ndarray
    origin: int | None


@dataclass(frozen=True)
class Thresholds:
    """Scores from which an image or a pixel is called defective, and what good images score."""

    image: float
    pixel: float
    good: GoodScores


def average_precision(method: Method, cases: Sequence[Case]) -> float:
    """Return the average precision of the pixels of cases."""
    return rank_pixels(
        [method.inspect(case.view).map for case in cases], [case.mask for case in cases]
    ).average_precision()


def combine(
    parts: Mapping[str, Method],
    good: GoodViews,
    held_out: int,
    defects: Sequence[Case],
    progress: Progress = silent,
) -> tuple[Method, Thresholds]:
    """Make one method of its parts.

    Args:
        parts: Fitted methods by name; what those with a memory remember is ``good``.
        good: Good views, levels [h, w, 3] each, first those that no part was trained on.
        held_out: Number of those.
        defects: Views with defects, or tiles of such views.
        progress: Told of every view.

    Returns:
        The only part, or an ensemble of all, and its thresholds.
    """
    in_tiles = any(part.tiles for part in parts.values())
    count = min(len(good), INSPECTED_IN_TILES if in_tiles else INSPECTED)
    defects = [case for case in defects if case.origin is None or case.origin < count]
    total = count + len(defects)
    opening: list[list[Inspection]] = []
    units = np.ones(1, dtype=np.float32)
    if len(parts) > 1:
        opening = [_inspect(parts, good[number], number) for number in range(min(held_out or PIXELS_OF, count))]
        units = find_units(np.array([[one.score for one in found] for found in opening]).T)
    scores, peaks, levels, maps = [], [], [], []
    for number in range(count):
        found = _sum(opening[number] if number < len(opening) else _inspect(parts, good[number], number), units)
        scores.append(found.score)
        peaks.append(float(found.map.max()))
        levels.append(np.median(found.map))
        thinned = max(round(max(found.map.shape) / MAP_SIDE), 1)
        maps += [found.map[::thinned, ::thinned]] if number < PIXELS_OF else []
        progress("choosing thresholds", number + 1, total)
    of_defects = []
    for number, case in enumerate(defects, start=count + 1):
        of_defects.append(_sum(_inspect(parts, case.view, case.origin), units))
        progress("choosing thresholds", number, total)
    is_trained = any(not isinstance(part, MemoryMethod) for part in parts.values())
    known = GoodScores(
        tuple(scores), tuple(peaks), min(held_out, count) if is_trained else count, float(np.median(levels))
    )
    method = Ensemble(parts, units) if len(parts) > 1 else next(iter(parts.values()))
    return method, _choose(known, maps, of_defects, defects)


def _inspect(parts: Mapping[str, Method], view: np.ndarray, origin: int | None) -> list[Inspection]:
    with ExitStack() as stack:
        for part in parts.values():
            if isinstance(part, MemoryMethod):
                stack.enter_context(part.leaving_out(origin))
        return [part.inspect(view) for part in parts.values()]


def _sum(found: Sequence[Inspection], units: np.ndarray) -> Inspection:
    return found[0] if len(found) == 1 else add(found, units)


def _choose(
    good: GoodScores, maps: Sequence[np.ndarray], found: Sequence[Inspection], defects: Sequence[Case]
) -> Thresholds:
    origins = np.array([np.nan if case.origin is None else good.scores[case.origin] for case in defects])
    scores = np.fmax([one.score for one in found], origins)  # of a tile: what the whole image would score, or more
    image = balance(np.array(good.scores), scores, origins)
    seen = [number for number in range(len(defects)) if not scores[number] <= origins[number]]
    if not seen:
        return Thresholds(image, max(good.peaks), good)
    pixels = Ranking(
        np.concatenate([found[number].map[defects[number].mask] for number in seen]),
        np.concatenate([found[number].map[~defects[number].mask] for number in seen] + [one.ravel() for one in maps]),
    )
    return Thresholds(image, pixels.f1_max()[1], good)
