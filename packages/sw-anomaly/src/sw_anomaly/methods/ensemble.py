"""Methods joined by a plus: their scores, each in units of what it says about good views, summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sw_anomaly.methods.base import Inspection, Method

UNIT = 0.9  # the quantile of the scores of good views that units follow
# In scores, and in maps. Features of real images know real defects; a network that was trained on drawn ones may not,
# least of all where their borders are.
WEIGHTS = {"patchcore": (4.0, 16.0)}


class Ensemble(Method):
    """Methods by name, and what of each counts as 1: in scores and in maps, float32 [2, parts], or in both, [parts]."""

    def __init__(self, parts: Mapping[str, Method], units: np.ndarray) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))
        self.units = nn.Buffer(torch.from_numpy(_of_scores_and_maps(units, len(parts))))

    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view, by each part in its own way, which may be in tiles."""
        parts = (cast(Method, part) for part in self.parts.values())
        return add([part.inspect(view) for part in parts], self.units.cpu().numpy())

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a view, float32 [1, 3, h, w]: sums of scores and of maps."""
        scores, maps = zip(*(part(view) for part in self.parts.values()), strict=True)
        of_scores, of_maps = self.units
        return _weighted(scores, of_scores), _weighted(maps, of_maps)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the parts, each under its name, and the units."""
        parts = {name: cast(Method, part).state() for name, part in self.parts.items()}
        held = {f"parts.{name}.{key}": tensor for name, state in parts.items() for key, tensor in state.items()}
        return {**held, "units": self.units.detach().clone()}

    def exportable(self) -> Method:
        """Return the ensemble of what its parts are exported as."""
        parts = {name: cast(Method, part).exportable() for name, part in self.parts.items()}
        return Ensemble(parts, self.units.cpu().numpy())


def find_units(names: Sequence[str], scores: np.ndarray, in_tiles: bool = False) -> np.ndarray:
    """Of named parts' scores of good views [parts, N] what counts as 1, float32 [2, parts]: in scores, and in maps.

    In scores it is how widely they spread: a method that gives all images much the same is heard when it gives one a
    little more. In maps it is a high score, which most places of good views stay far below. Some parts count more,
    but not in tiles, which are for defects so small that features of some pixels average them away.
    """
    high = np.quantile(scores, UNIT, axis=1)
    units = np.maximum([high - np.median(scores, axis=1), high], 1e-6)
    weights = [(1.0, 1.0) if in_tiles else WEIGHTS.get(name, (1.0, 1.0)) for name in names]
    return (units / np.transpose(weights)).astype(np.float32)


def add(inspections: Sequence[Inspection], units: np.ndarray) -> Inspection:
    """Return what several methods said about one view, as one."""
    of_scores, of_maps = _of_scores_and_maps(units, len(inspections))
    score = sum(found.score / float(unit) for found, unit in zip(inspections, of_scores, strict=True))
    heat = np.zeros_like(inspections[0].map)
    for found, unit in zip(inspections, of_maps, strict=True):
        heat += found.map / unit
    return Inspection(score, heat)


def _of_scores_and_maps(units: np.ndarray, parts: int) -> np.ndarray:
    """Return units as [2, parts]; those of older files are [parts]."""
    return np.broadcast_to(units, (2, parts)).copy()


def _weighted(parts: Sequence[Tensor], units: Tensor) -> Tensor:
    return cast(Tensor, sum(part / unit for part, unit in zip(parts, units, strict=True)))
