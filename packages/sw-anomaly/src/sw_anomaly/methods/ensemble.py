"""The method ``unet+bank``: the scores of two methods, each in units of what it says about good views, summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sw_anomaly.detector import Inspection, Method

UNIT = 0.9  # the quantile of the scores of held-out good views that becomes 1
UNITS = "units"  # the tensor in a checkpoint that belongs to no part


class Combined(Method):
    """Methods by name, and the score of each, float32 [number of parts], that counts as 1."""

    def __init__(self, parts: Mapping[str, Method], units: np.ndarray) -> None:
        self.parts = parts
        self.units = units

    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view, uint8 [h, w, 3]: sums of scores and of maps."""
        return add([part.inspect(view) for part in self.parts.values()], self.units)

    def tensors(self) -> dict[str, Tensor]:
        """Those of the parts, each under its name, and the units."""
        held = {f"{name}/{key}": tensor for name, part in self.parts.items() for key, tensor in part.tensors().items()}
        return {**held, UNITS: torch.from_numpy(self.units)}


def find_units(scores: np.ndarray) -> np.ndarray:
    """Of scores of held-out good views [parts, N] those that count as 1, float32 [parts]."""
    return np.maximum(np.quantile(scores, UNIT, axis=1), 1e-6).astype(np.float32)


def add(inspections: Sequence[Inspection], units: np.ndarray) -> Inspection:
    """What several methods say about one view, as one."""
    score = sum(found.score / float(unit) for found, unit in zip(inspections, units, strict=True))
    maps = np.stack([found.map / unit for found, unit in zip(inspections, units, strict=True)])
    return Inspection(score, maps.sum(axis=0))
