"""Methods joined by a plus: their scores, each in units of what it says about good views, summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sw_anomaly.methods.base import Inspection, Method

UNIT = 0.9  # the quantile of the scores of good views that lies 1 above their median


class Ensemble(Method):
    """Methods by name, and the score of each, float32 [number of parts], that counts as 1."""

    def __init__(self, parts: Mapping[str, Method], units: np.ndarray) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))
        self.units = nn.Buffer(torch.from_numpy(units))

    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view, by each part in its own way, which may be in tiles."""
        parts = (cast(Method, part) for part in self.parts.values())
        return add([part.inspect(view) for part in parts], self.units.cpu().numpy())

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a view, float32 [1, 3, h, w]: sums of scores and of maps."""
        found = [part(view) for part in self.parts.values()]
        score = sum(one / unit for (one, _), unit in zip(found, self.units, strict=True))
        return cast(Tensor, score), cast(
            Tensor, sum(heat / unit for (_, heat), unit in zip(found, self.units, strict=True))
        )

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the parts, each under its name, and the units."""
        parts = {name: cast(Method, part).state() for name, part in self.parts.items()}
        held = {f"parts.{name}.{key}": tensor for name, state in parts.items() for key, tensor in state.items()}
        return {**held, "units": self.units.detach().clone()}

    def exportable(self) -> Method:
        """Return the ensemble of what its parts are exported as."""
        parts = {name: cast(Method, part).exportable() for name, part in self.parts.items()}
        return Ensemble(parts, self.units.cpu().numpy())


def find_units(scores: np.ndarray) -> np.ndarray:
    """Of scores of good views [parts, N] the differences that count as 1, float32 [parts]: how widely they spread.

    A method that gives all images much the same is heard when it gives one a little more.
    """
    spread = np.quantile(scores, UNIT, axis=1) - np.median(scores, axis=1)
    return np.maximum(spread, 1e-6).astype(np.float32)


def add(inspections: Sequence[Inspection], units: np.ndarray) -> Inspection:
    """Return what several methods said about one view, as one."""
    score = sum(found.score / float(unit) for found, unit in zip(inspections, units, strict=True))
    heat = np.zeros_like(inspections[0].map)
    for found, unit in zip(inspections, units, strict=True):
        heat += found.map / unit
    return Inspection(score, heat)
