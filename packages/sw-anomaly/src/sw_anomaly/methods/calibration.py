"""Thresholds and units that follow from held-out good views and synthetic defects on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sw_anomaly.methods.base import Inspection, Method
from sw_anomaly.methods.ensemble import Ensemble, add, find_units
from sw_anomaly.metrics.ranking import rank_images, rank_pixels
from sw_anomaly.progress import Progress, silent


@dataclass(frozen=True)
class Thresholds:
    """Scores from which an image or a pixel is called defective, and the pixels' average precision."""

    image: float
    pixel: float
    pixel_ap: float


def calibrate(inspections: Sequence[Inspection], masks: Sequence[np.ndarray]) -> Thresholds:
    """The thresholds of highest F1 on inspected views and their masks, bool [h, w]."""
    images = rank_images([inspection.score for inspection in inspections], [bool(mask.any()) for mask in masks])
    pixels = rank_pixels([inspection.map for inspection in inspections], masks)
    return Thresholds(images.f1_max()[1], pixels.f1_max()[1], pixels.average_precision())


def combine(
    parts: Mapping[str, Method], validation: Sequence[tuple[np.ndarray, np.ndarray]], progress: Progress = silent
) -> tuple[Method, Thresholds]:
    """Make one method of its parts.

    Args:
        parts: Fitted methods by name.
        validation: Views, levels [h, w, 3], and their masks, bool [h, w].
        progress: Told of every view.

    Returns:
        The only part, or an ensemble of all, and its thresholds.
    """
    inspections = []
    for number, (view, _) in enumerate(validation, start=1):
        inspections.append([part.inspect(view) for part in parts.values()])
        progress("choosing thresholds", number, len(validation))
    masks = [mask for _, mask in validation]
    if len(parts) == 1:
        (method,) = parts.values()
        return method, calibrate([found for (found,) in inspections], masks)
    good = [found for found, mask in zip(inspections, masks, strict=True) if not mask.any()]
    units = find_units(np.array([[one.score for one in found] for found in good or inspections]).T)
    return Ensemble(parts, units), calibrate([add(found, units) for found in inspections], masks)
