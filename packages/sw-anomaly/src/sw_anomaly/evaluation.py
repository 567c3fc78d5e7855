"""Scoring the test images of a category, and measuring how good the scores are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from sw_anomaly.dataset import LabelledImage
from sw_anomaly.detector import Inspection
from sw_anomaly.metrics import rank_images, rank_pixels, region_overlap
from sw_anomaly.progress import Progress, silent


class Detector(Protocol):
    """Anything that inspects images: uint8 [H, W, 3] to a score and a map."""

    @property
    def image_threshold(self) -> float:
        """Images that score this much are called defective."""

    @property
    def pixel_threshold(self) -> float:
        """Pixels that score this much are called defective."""

    def inspect(self, image: np.ndarray) -> Inspection:
        """Inspect one image."""


@dataclass(frozen=True)
class TestedImage:
    """A test image, its mask, bool [H, W], and what the detector said about it."""

    image: LabelledImage
    mask: np.ndarray
    inspection: Inspection
    called_defective: bool

    @property
    def is_right(self) -> bool:
        """Whether the detector decided rightly."""
        return self.called_defective != self.image.is_good


@dataclass(frozen=True)
class Scores:
    """The metrics of a set of good and defective images; NaN where the set does not define one."""

    image_auroc: float
    image_f1_max: float
    pixel_auroc: float
    pixel_ap: float
    aupro: float


@dataclass(frozen=True)
class Evaluation:
    """All that was measured: overall, per defect type (each against all good images), image by image, as curves."""

    tested: tuple[TestedImage, ...]
    overall: Scores
    per_defect: dict[str, Scores]
    curves: dict[str, np.ndarray]  # at the false-positive rates `metrics.CURVE_FPR`

    @property
    def missed(self) -> int:
        """Number of defective images that were called good."""
        return sum(not tested.image.is_good and not tested.is_right for tested in self.tested)

    @property
    def false_alarms(self) -> int:
        """Number of good images that were called defective."""
        return sum(tested.image.is_good and not tested.is_right for tested in self.tested)

    def as_dict(self) -> dict[str, Any]:
        """Everything but maps and curves, ready for JSON: None stands for NaN."""
        return {
            "overall": _without_nan(self.overall),
            "per_defect": {kind: _without_nan(scores) for kind, scores in self.per_defect.items()},
            "missed": self.missed,
            "false_alarms": self.false_alarms,
            "images": [
                {
                    "path": str(tested.image.path),
                    "kind": tested.image.kind,
                    "score": tested.inspection.score,
                    "called_defective": tested.called_defective,
                }
                for tested in self.tested
            ],
        }


def evaluate(detector: Detector, images: Sequence[LabelledImage], progress: Progress = silent) -> Evaluation:
    """Inspect all `images` and measure; the detector decides with its own thresholds, which no test image has moved."""
    tested = []
    for number, image in enumerate(images, start=1):
        pixels, mask = image.load()
        inspection = detector.inspect(pixels)
        tested.append(TestedImage(image, mask, inspection, inspection.score >= detector.image_threshold))
        progress("inspecting test images", number, len(images))
    overall, curves = _measure(tested)
    kinds = sorted({image.kind for image in images if not image.is_good})
    per_defect = {
        kind: _measure([one for one in tested if one.image.is_good or one.image.kind == kind])[0] for kind in kinds
    }
    return Evaluation(tuple(tested), overall, per_defect, curves)


def _measure(tested: Sequence[TestedImage]) -> tuple[Scores, dict[str, np.ndarray]]:
    images = rank_images([one.inspection.score for one in tested], [not one.image.is_good for one in tested])
    maps, masks = [one.inspection.map for one in tested], [one.mask for one in tested]
    pixels = rank_pixels(maps, masks)
    overlap = region_overlap(pixels, maps, masks)
    scores = Scores(images.auroc(), images.f1_max()[0], pixels.auroc(), pixels.average_precision(), overlap.area)
    return scores, {"image ROC": images.roc(), "pixel ROC": pixels.roc(), "PRO": overlap.curve}


def _without_nan(scores: Scores) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in asdict(scores).items()}
