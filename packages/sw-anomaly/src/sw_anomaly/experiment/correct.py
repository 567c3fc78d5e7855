"""Learning from wrong verdicts: what a run said of images, put right by people, in a run of its own.

Each method of the run learns which places misled it, and the thresholds move past some of the verdicts that stay wrong
when each image is judged without what was learned of itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sw_anomaly.config import CHECKPOINT
from sw_anomaly.data.category import LabelledImage, count
from sw_anomaly.data.images import load_image
from sw_anomaly.data.manifest import picture_digest, training_images
from sw_anomaly.data.splits import Protocol
from sw_anomaly.detector import Detector, load_detector
from sw_anomaly.experiment.fit import MANIFEST
from sw_anomaly.experiment.folders import new_run
from sw_anomaly.methods.base import HeatMethod, Inspection
from sw_anomaly.methods.correction import FALSE, Correction, GoodPlaces, hottest, spread
from sw_anomaly.metrics.thresholds import GoodScores, rebalance
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError
from sw_models.files import lock_folder

DECISIONS = "decisions.csv"
COMPARED = 32  # good training images, at most, that tell what good places look like


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        run: The new run's folder.
        decisions: Number of images that people judged.
        false_alarms: How many good ones of them were called defective.
        missed: How many defective ones were called good.
        still_wrong: How many of these are, each judged without what was learned of itself.
        image_threshold: Of images, before and after.
    """

    run: Path
    decisions: int
    false_alarms: int
    missed: int
    still_wrong: int
    image_threshold: tuple[float, float]


@dataclass(frozen=True)
class _Wrong:
    """A view that was judged wrongly, what it is, and what each part learns from it."""

    view: np.ndarray
    is_good: bool
    taught: Mapping[str, Correction]


def correct(
    former: Path,
    decisions: Sequence[LabelledImage],
    out: Path,
    table: Path | None = None,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Make a detector that has learned from the wrong verdicts of another.

    Args:
        former: Folder of the other's run, which is left as it is.
        decisions: Images, and what they are; right verdicts on them change no map.
        out: Folder of runs.
        table: The file of the decisions, of which the new run holds a copy.
        progress: Told of each step.
        tell: Told what is worth knowing.

    Raises:
        InputError: If no verdict is wrong, or the run is not one that can be corrected.
    """
    detector = load_detector(former / CHECKPOINT)
    info, method, good = detector.info, detector.method, detector.info.good
    if good is None or info.protocol != Protocol() or not detector.image_threshold > 0:
        raise InputError(f"{former}: want a run of this version that saw good images alone")
    parts = {name: part for name, part in detector.parts.items() if isinstance(part, HeatMethod)}
    known = _learn_good_places(detector, parts, former)
    wrong: list[_Wrong] = []
    said_good: list[Inspection] = []
    for done, image in enumerate(decisions, start=1):
        view = info.view.apply(info.intensity.levels(image.pixels())).pixels
        found = method.inspect(view)
        if (found.score >= detector.image_threshold) == image.is_good:
            wrong.append(_Wrong(view, image.is_good, _learn(detector, parts, known, view, found, image.is_good)))
        elif image.is_good:
            said_good.append(found)
        progress("judging decided images", done, len(decisions))
    if not wrong:
        raise InputError(f"decisions: got {count(decisions, 'verdict')} that {former} gives, too, want wrong ones")
    false_alarms = sum(one.is_good for one in wrong)
    tell(
        f"{len(wrong)} of {count(decisions, 'verdict')} are wrong: {false_alarms} good called defective, "
        f"{len(wrong) - false_alarms} defective called good"
    )
    learned = {name: [part.correction] if part.correction else [] for name, part in parts.items()}

    def apply(examples: Sequence[_Wrong]) -> None:
        for name, part in parts.items():
            every = learned[name] + [one.taught[name] for one in examples]
            part.correction = Correction.joined(every) if every else None

    alone: list[Inspection] = []  # each judged without what was learned of itself
    for number, one in enumerate(wrong):
        apply(wrong[:number] + wrong[number + 1 :])
        alone.append(method.inspect(one.view))
        progress("judging corrected images", number + 1, len(wrong))
    apply(wrong)
    scored = [(found.score, one.is_good) for found, one in zip(alone, wrong, strict=True)]
    before = detector.image_threshold
    image_threshold = rebalance(
        before,
        [score for score, is_good in scored if is_good and score >= before],
        [score for score, is_good in scored if not is_good and score < before],
        len(wrong),
    )
    said_good += [found for found, one in zip(alone, wrong, strict=True) if one.is_good]
    fresh = GoodScores(
        tuple(found.score for found in said_good),
        tuple(float(found.map.max()) for found in said_good),
        len(said_good),
        good.level,
    )
    corrected = replace(
        info,
        seen=(*info.seen, *(picture_digest(image) for image in decisions)),
        image_threshold=image_threshold,
        pixel_threshold=info.pixel_threshold * image_threshold / before,
        good=good.joined(fresh),
        corrected=info.corrected + len(wrong),
    )
    run = new_run(out / info.category)
    with lock_folder(run):
        for source, name in ((former / MANIFEST, MANIFEST), *([(table, DECISIONS)] if table else [])):
            shutil.copyfile(source, run / name)
        Detector(method, corrected).save(run / CHECKPOINT)
    return Outcome(
        run,
        len(decisions),
        false_alarms,
        len(wrong) - false_alarms,
        sum((score >= image_threshold) == is_good for score, is_good in scored),
        (before, image_threshold),
    )


def _learn_good_places(detector: Detector, parts: Mapping[str, HeatMethod], run: Path) -> dict[str, GoodPlaces]:
    paths = training_images(run / MANIFEST, COMPARED)
    if len(paths) < 2:
        raise InputError(f"{run / MANIFEST}: got {len(paths)} of its training images where they were, want 2 or more")
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in parts}
    for path in paths:
        view = detector.info.view.apply(detector.info.intensity.levels(load_image(path))).pixels
        tile = view[: detector.image_size, : detector.image_size] if detector.info.view.tiles else view
        for name, part in parts.items():
            seen[name].append(spread(_describe(part, tile)))
    scales = {name: part.correction.scale if part.correction else None for name, part in parts.items()}
    return {name: GoodPlaces(images, scales[name]) for name, images in seen.items()}


def _learn(
    detector: Detector,
    parts: Mapping[str, HeatMethod],
    known: Mapping[str, GoodPlaces],
    view: np.ndarray,
    found: Inspection,
    is_good: bool,
) -> dict[str, Correction]:
    """Learn from where a view is hottest, for each part; of one in tiles, from the tile around its hottest place."""
    shown, heat = view, torch.from_numpy(found.map)
    if detector.info.view.tiles:
        side = detector.image_size
        middle = np.unravel_index(found.map.argmax(), found.map.shape)
        first = np.clip(np.array(middle) - side // 2, 0, np.array(found.map.shape) - side)
        place = tuple(slice(start, start + side) for start in first)
        shown, heat = view[place], heat[place]
    ratio = found.score / detector.image_threshold
    hot = FALSE * detector.image_threshold if is_good else np.inf
    return {
        name: Correction.learn(hottest(_describe(part, shown), heat, hot), known[name], is_good, ratio)
        for name, part in parts.items()
    }


@torch.inference_mode()
def _describe(part: HeatMethod, view: np.ndarray) -> torch.Tensor:
    device = next(part.buffers()).device
    return part.describe(torch.from_numpy(view).to(device).permute(2, 0, 1)[None].float())
