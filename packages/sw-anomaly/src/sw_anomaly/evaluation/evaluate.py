"""Scoring the test images of a category, and measuring how good the scores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from sw_anomaly.data.category import LabelledImage
from sw_anomaly.data.intensity import Intensity
from sw_anomaly.detector import Inspection
from sw_anomaly.metrics.bootstrap import LEVEL, RESAMPLES, ImageStatistics, Interval, bootstrap, collect
from sw_anomaly.metrics.operating_points import OperatingPoint, operating_points
from sw_anomaly.metrics.ranking import Ranking, agreement, rank_images, rank_pixels, region_overlap
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError


class Detector(Protocol):
    """Anything that inspects images: uint8 [H, W, 3] to a score and a map."""

    @property
    def intensity(self) -> Intensity:
        """The scale that images are read on, for those who draw them."""

    @property
    def level(self) -> float:
        """What the maps of good images show in most places, for those who draw them."""

    @property
    def image_threshold(self) -> float:
        """Images that score this much are called defective."""

    @property
    def pixel_threshold(self) -> float:
        """Pixels that score this much are called defective."""

    def inspect(self, image: np.ndarray) -> Inspection:
        """Inspect one image."""


@dataclass(frozen=True)
class Verdict:
    """Whether an image is called defective, and which of its pixels, bool [H, W]: some then, and none otherwise."""

    is_defective: bool
    pixels: np.ndarray


@dataclass(frozen=True)
class TestedImage:
    """A test image, its mask, bool [H, W], and what the detector said about it."""

    image: LabelledImage
    mask: np.ndarray
    inspection: Inspection
    verdict: Verdict

    @property
    def called_defective(self) -> bool:
        """What the detector decided."""
        return self.verdict.is_defective

    @property
    def is_right(self) -> bool:
        """Whether the detector decided rightly."""
        return self.called_defective != self.image.is_good


@dataclass(frozen=True)
class Scores:
    """The metrics of a set of good and defective images; NaN where the set does not define one."""

    image_auroc: float
    image_ap: float
    image_f1_max: float
    pixel_auroc: float
    pixel_ap: float
    pixel_f1_max: float
    aupro: float  # up to a false-positive rate of 0.3
    aupro_05: float  # and of 0.05
    dice: float  # this and what follows: of all pixels, at the detector's own threshold
    iou: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Evaluation:
    """All that was measured: overall, per defect type (each against all good images), image by image, as curves.

    Example:
        >>> evaluation = sw_anomaly.evaluate(detector, category.test)
        >>> evaluation.overall.image_auroc, evaluation.missed
    """

    tested: tuple[TestedImage, ...]
    overall: Scores
    per_defect: dict[str, Scores]
    overall_intervals: dict[str, Interval]  # one for each field of Scores, see `sw_anomaly.metrics.bootstrap`
    per_defect_intervals: dict[str, dict[str, Interval]]
    curves: dict[str, np.ndarray]  # at the rates `metrics.CURVE_AXIS`
    statistics: ImageStatistics  # what `sw-anomaly compare` needs to know of each image
    operating_points: tuple[OperatingPoint, ...]  # at the thresholds in force, and at those of stated rates

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
            "overall": _without_nan(asdict(self.overall)),
            "per_defect": {kind: _without_nan(asdict(scores)) for kind, scores in self.per_defect.items()},
            "intervals": {
                "level": LEVEL,
                "resamples": RESAMPLES,
                "overall": _without_nan(self.overall_intervals),
                "per_defect": {kind: _without_nan(ends) for kind, ends in self.per_defect_intervals.items()},
            },
            "operating_points": [_point(one) for one in self.operating_points],
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


def decide(detector: Detector, inspection: Inspection) -> Verdict:
    """Say whether an image is defective, and where.

    Args:
        detector: Whose thresholds decide.
        inspection: What it said about the image.

    Returns:
        Whether the score reaches the threshold; if so, the pixels that reach theirs, or the hottest if none does.

    Raises:
        InputError: If a number that decides, on the image or on a pixel of it, is not finite.
    """
    numbers = {
        "score": inspection.score,
        "image threshold": detector.image_threshold,
        "pixel threshold": detector.pixel_threshold,
        "map": float(np.sum(inspection.map, dtype=np.float64)),  # finite if all are, without a second map
    }
    for name, value in numbers.items():
        if not np.isfinite(value):
            raise InputError(f"{name} of the detector: got {value}, want a number; the checkpoint is damaged")
    if inspection.score < detector.image_threshold:
        return Verdict(False, np.zeros(inspection.map.shape, dtype=bool))
    return Verdict(True, inspection.map >= min(detector.pixel_threshold, inspection.map.max()))


def evaluate(detector: Detector, images: Sequence[LabelledImage], progress: Progress = silent) -> Evaluation:
    """Inspect images and measure how well defects are found.

    Args:
        detector: What inspects; its own thresholds decide, which no test image has moved.
        images: The test images.
        progress: Told of each image.

    Returns:
        All that was measured.

    Raises:
        InputError: If an image or a mask cannot be read, or a score is not finite.
    """
    tested = []
    for number, image in enumerate(images, start=1):
        shown, mask = image.load()
        inspection = detector.inspect(shown)
        try:
            tested.append(TestedImage(image, mask, inspection, decide(detector, inspection)))
        except InputError as error:
            raise InputError(f"{image.path}: {error}") from error
        progress("inspecting test images", number, len(images))
    overall, curves, pixels = _measure(tested)
    statistics = _collect(tested, pixels)
    per_defect, per_defect_intervals = {}, {}
    for kind in sorted({image.kind for image in images if not image.is_good}):
        rows = [row for row, one in enumerate(tested) if one.image.is_good or one.image.kind == kind]
        per_defect[kind] = _measure([tested[row] for row in rows])[0]
        per_defect_intervals[kind] = bootstrap(statistics.select(rows))
    return Evaluation(
        tuple(tested),
        overall,
        per_defect,
        bootstrap(statistics),
        per_defect_intervals,
        curves,
        statistics,
        operating_points(
            statistics.scores, statistics.defective, np.array([one.called_defective for one in tested], dtype=bool)
        ),
    )


def _measure(tested: Sequence[TestedImage]) -> tuple[Scores, dict[str, np.ndarray], Ranking]:
    images = rank_images([one.inspection.score for one in tested], [not one.image.is_good for one in tested])
    maps, masks = [one.inspection.map for one in tested], [one.mask for one in tested]
    pixels = rank_pixels(maps, masks)
    overlap = region_overlap(pixels, maps, masks)
    aupro, aupro_05 = overlap.areas.values()
    measured = Scores(
        image_auroc=images.auroc(),
        image_ap=images.average_precision(),
        image_f1_max=images.f1_max()[0],
        pixel_auroc=pixels.auroc(),
        pixel_ap=pixels.average_precision(),
        pixel_f1_max=pixels.f1_max()[0],
        aupro=aupro,
        aupro_05=aupro_05,
        **agreement(*_count_pixels(tested)),
    )
    curves = {
        "image ROC": images.roc(),
        "pixel ROC": pixels.roc(),
        "PRO": overlap.curve,
        "image PR": images.precision_recall(),
        "pixel PR": pixels.precision_recall(),
    }
    return measured, curves, pixels


def _count_pixels(tested: Sequence[TestedImage]) -> np.ndarray:
    """Numbers of true, false and missed defective pixels."""
    found = [(one.verdict.pixels, one.mask) for one in tested]
    return np.sum(
        [((called & mask).sum(), (called & ~mask).sum(), (mask & ~called).sum()) for called, mask in found], 0
    )


def _collect(tested: Sequence[TestedImage], pixels: Ranking) -> ImageStatistics:
    return collect(
        names=[f"{one.image.kind}/{one.image.path.name}" for one in tested],
        defective=[not one.image.is_good for one in tested],
        scores=[one.inspection.score for one in tested],
        maps=[one.inspection.map for one in tested],
        masks=[one.mask for one in tested],
        pixels=pixels,
        called=[one.verdict.pixels for one in tested],
    )


Value = TypeVar("Value", float, Interval)


def _without_nan(values: Mapping[str, Value]) -> dict[str, Value | None]:
    return {name: None if np.isnan(value).any() else value for name, value in values.items()}


def _point(point: OperatingPoint) -> dict[str, Any]:
    values = asdict(point)
    return {"at": values.pop("at"), **_without_nan(values)}
