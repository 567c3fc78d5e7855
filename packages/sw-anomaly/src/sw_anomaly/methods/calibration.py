"""Thresholds and units that follow from good training views and synthetic defects on them.

Methods that remember views judge each of these without what they remember of it, so that all are held out. Of a
trained network only some are; it gives the others much the same scores, for it has seen each of them moved and lit in
many ways, and all of them count. That costs one inspection of each view, ``INSPECTED`` at most, and another one where
some of them look defective: these are forgotten, and the others judged again.
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
from sw_anomaly.metrics.thresholds import GoodScores, balance, suspicious
from sw_anomaly.progress import Progress, silent

INSPECTED = 1000  # good views, at most
INSPECTED_IN_TILES = 64  # likewise, of views that are inspected in tiles
MAP_SIDE = 1024  # pixels along a map, of which no more count
PIXELS_OF = 32  # good views, whose pixels count for the threshold of pixels beside those of views with defects
PIXEL_STRENGTHS = (0.5, 0.75, 1.0)  # of pixels of real defects, of what drawn ones have above the level of good ones


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
    """Scores from which an image or a pixel is called defective, and what good images score.

    ``suspects`` are the numbers of good views that look defective; nothing of them is remembered, nor do they count.
    """

    image: float
    pixel: float
    good: GoodScores
    suspects: tuple[int, ...] = ()


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
    former: GoodScores | None = None,
    units: np.ndarray | None = None,
) -> tuple[Method, Thresholds]:
    """Make one method of its parts.

    Args:
        parts: Fitted methods by name; what those with a memory remember is ``good``.
        good: Good views, levels [h, w, 3] each, first those that no part was trained on.
        held_out: Number of those.
        defects: Views with defects, or tiles of such views.
        progress: Told of every view.
        former: What other good images scored, which count, too.
        units: Those of the parts, if they are known.

    Returns:
        The only part, or an ensemble of all, and its thresholds.
    """
    in_tiles = any(part.tiles for part in parts.values())
    left = list(range(min(len(good), INSPECTED_IN_TILES if in_tiles else INSPECTED)))
    opening: dict[int, list[Inspection]] = {}
    if len(parts) == 1:
        units = np.ones(1, dtype=np.float32)
    elif units is None:
        opening = {number: _inspect(parts, good[number], number) for number in left[: max(held_out, PIXELS_OF)]}
        scores = np.array([[one.score for one in found] for found in opening.values()]).T
        units = find_units(list(parts), scores, in_tiles)
    memories = [part for part in parts.values() if isinstance(part, MemoryMethod)]
    suspects: list[int] = []
    for is_last in (False, True):
        judged: dict[int, _Judged] = {}
        for done, number in enumerate(left, start=1):
            parted = opening.pop(number, None) or _inspect(parts, good[number], number)
            judged[number] = _summarize(_sum(parted, units), with_map=len(judged) < PIXELS_OF)
            progress("judging good images", done, len(left))
        others = former.scores if former else ()
        odd = suspicious(np.array([*others, *(one.score for one in judged.values())]))
        flagged = [left[place - len(others)] for place in odd if place >= len(others)]
        suspects += flagged
        left = [number for number in left if number not in flagged]
        for memory in memories:
            memory.forget(flagged)
        if is_last or not (flagged and memories):
            break
    defects = [case for case in defects if case.origin is None or case.origin in left]
    of_defects = []
    for done, case in enumerate(defects, start=1):
        of_defects.append(_sum(_inspect(parts, case.view, case.origin), units))
        progress("choosing thresholds", done, len(defects))
    kept = [judged[number] for number in left]
    known = GoodScores(
        tuple(one.score for one in kept),
        tuple(one.peak for one in kept),
        len(left) if len(memories) == len(parts) else sum(number < held_out for number in left),
        float(np.median([one.level for one in kept])),
    )
    known = former.joined(known) if former else known
    origins = np.array([np.nan if case.origin is None else judged[case.origin].score for case in defects])
    method = Ensemble(parts, units) if len(parts) > 1 else next(iter(parts.values()))
    maps = [one.map for one in kept if one.map is not None]
    return method, _choose(known, maps, of_defects, defects, origins, tuple(sorted(suspects)))


class _Judged(NamedTuple):
    """What thresholds need to know of a good view."""

    score: float
    peak: float
    level: float
    map: np.ndarray | None


def _summarize(found: Inspection, with_map: bool) -> _Judged:
    thinned = max(round(max(found.map.shape) / MAP_SIDE), 1)
    kept = found.map[::thinned, ::thinned] if with_map else None
    return _Judged(found.score, float(found.map.max()), float(np.median(found.map)), kept)


def _inspect(parts: Mapping[str, Method], view: np.ndarray, origin: int | None) -> list[Inspection]:
    with ExitStack() as stack:
        for part in parts.values():
            if isinstance(part, MemoryMethod):
                stack.enter_context(part.leaving_out(origin))
        return [part.inspect(view) for part in parts.values()]


def _sum(found: Sequence[Inspection], units: np.ndarray) -> Inspection:
    return found[0] if len(found) == 1 else add(found, units)


def _choose(
    good: GoodScores,
    maps: Sequence[np.ndarray],
    found: Sequence[Inspection],
    defects: Sequence[Case],
    origins: np.ndarray,
    suspects: tuple[int, ...],
) -> Thresholds:
    scores = np.fmax([one.score for one in found], origins)  # of a tile: what the whole image would score, or more
    image = balance(np.array(good.scores), scores, origins)
    seen = [number for number in range(len(defects)) if not scores[number] <= origins[number]]
    if not seen:
        return Thresholds(image, max(good.peaks), good, suspects)
    shown = [
        (good.level + strength * (found[number].map - good.level), defects[number].mask)
        for number in seen
        for strength in (PIXEL_STRENGTHS if defects[number].origin is not None else (1.0,))
    ]
    pixels = Ranking(
        np.concatenate([heat[mask] for heat, mask in shown]),
        np.concatenate([heat[~mask] for heat, mask in shown] + [one.ravel() for one in maps]),
    )
    return Thresholds(image, pixels.f1_max()[1], good, suspects)
