"""From a category to a finished run: checked, fitted where need be, evaluated, written down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sw_anomaly import config
from sw_anomaly.config import CHECKPOINT, TrainingConfig
from sw_anomaly.data.category import Category, count
from sw_anomaly.data.check import check_category, refuse
from sw_anomaly.data.layouts import read_category
from sw_anomaly.data.manifest import check_unseen, digest, picture_digest, write_manifest
from sw_anomaly.data.splits import Protocol, make_split
from sw_anomaly.detector import Detector, DetectorInfo
from sw_anomaly.evaluation.evaluate import Evaluation, evaluate
from sw_anomaly.experiment import fit as methods
from sw_anomaly.experiment.folders import find_checkpoint, find_unfinished, new_run
from sw_anomaly.preprocessing.view import choose_image_size
from sw_anomaly.progress import Progress, silent
from sw_anomaly.report.html import describe, write_sections
from sw_anomaly.sample.write import is_synthetic
from sw_models.errors import InputError
from sw_models.files import lock_folder, remove_half_written, write_atomically
from sw_models.images import MAX_PIXELS

UNSUPERVISED = {"protocol": "unsupervised", "defects": 0, "known_type": None}
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is to be evaluated: a category in a folder of data, and the options of training that were given.

    Without a ``checkpoint`` the newest in ``out`` that was made as asked is taken, or a new one is made.
    """

    data: Path
    category: str
    out: Path
    options: dict[str, Any]
    checkpoint: Path | None = None
    max_pixels: int = MAX_PIXELS
    false_alarms: float | None = None  # the rate that is asked for, None for the thresholds of the checkpoint


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, what its ``results.json`` says, and what the report says about it."""

    run: Path
    result: dict[str, Any]
    section: dict[str, Any]
    evaluation: Evaluation | None  # not from other processes, for it holds every map


def read_checked(
    data: Path,
    category: str,
    max_pixels: int = MAX_PIXELS,
    leaky: bool = False,
    progress: Progress = silent,
    tell: Tell = lambda text: None,
) -> Category:
    """Read a category and look at every file of it, before time is spent on anything else.

    Args:
        data: Folder of the data set.
        category: Folder of the category in it.
        max_pixels: The largest image that is decoded.
        leaky: Whether test images may show the same as training images.
        progress: Told of each file.
        tell: Told what is worth knowing.

    Raises:
        InputError: If something is wrong with the files; the message names all of it.
    """
    check = check_category(read_category(data, category, max_pixels), leaky, progress)
    refuse(check)
    for note in check.noted:
        tell(f"{category}: {note}")
    if check.category.left_out:
        tell(f"{category}: {count(check.category.left_out, 'file')} left out; sw-anomaly check says which and why")
    return check.category


def configure(images: Category, options: Mapping[str, Any]) -> TrainingConfig:
    """Return the configuration of a training of these images; what is not among the options has its default."""
    given = dict(options)
    size = given.pop("image_size", None) or choose_image_size(images.train[0].pixels().shape[:2])
    return config.TrainingConfig(images.name, digest(images.train), size, **given)


def fit_run(
    images: Category, options: Mapping[str, Any], out: Path, progress: Progress, tell: Tell
) -> tuple[Path, float]:
    """Fit a detector in a folder of its own; an interrupted training is continued.

    Args:
        images: The category.
        options: Fields of ``TrainingConfig``; the others have their defaults.
        out: Folder of runs.
        progress: Told of each step.
        tell: Told what is worth knowing.

    Returns:
        The run's folder, and the seconds it took.

    Raises:
        InputError: If another process is at this very training, or no folder can be made.
    """
    config = configure(images, options)
    unfinished = find_unfinished(out / images.name, config)
    run = unfinished or new_run(out / images.name)
    protocol = Protocol(config.protocol, config.defects, config.known_type)
    split = make_split(images, protocol, config.seed)
    if protocol.name == "supervised":  # a defect that is shown may have a copy among the others
        check_unseen(split.test, (picture_digest(image) for image in (*split.train, *split.validation)))
    start = time.perf_counter()
    with lock_folder(run):
        if (run / CHECKPOINT).is_file():  # the process that had it finished just now
            return run, 0.0
        if unfinished is not None:
            tell(f"Continuing the interrupted training in {run}")
        remove_half_written(run)
        try:
            detector = methods.fit(split, config, run, progress)
        except KeyboardInterrupt:
            tell(f"Interrupted; the same command continues from the last complete epoch in {run}.")
            raise
    tell(f"Alignment of {images.name}: {describe_alignment(detector)}; tiles: {describe_tiling(detector)}")
    if detector.info.suspicious:
        tell(f"Good training images that look defective, and are left out: {', '.join(detector.info.suspicious)}")
    return run, time.perf_counter() - start


def describe_alignment(detector: Detector) -> str:
    """Whether a detector aligns parts, and why."""
    return f"{'on' if detector.info.view.crop else 'off'} ({detector.info.alignment})"


def describe_tiling(detector: Detector) -> str:
    """Whether a detector inspects tiles, and why."""
    return f"{'on' if detector.info.view.tiles else 'off'} ({detector.info.tiling})"


def run_one(request: Request, progress: Progress = silent, tell: Tell = lambda text: None) -> Outcome:
    """Fit a detector unless there is one, evaluate it, and write results and report to a run's folder."""
    name, folder = request.category, request.out / request.category
    leaky = request.options.get("protocol") == "published" or request.checkpoint is not None
    images = read_checked(request.data, name, request.max_pixels, leaky, progress, tell)
    if not images.test:
        raise InputError(f"{request.data}: got no test images of {name!r}, want some to evaluate on")
    run, seconds = None, {}
    checkpoint = request.checkpoint or find_checkpoint(folder, digest(images.train), UNSUPERVISED | request.options)
    if checkpoint is None:
        tell(f"No checkpoint for {name!r} in {folder}: fitting a detector first.")
        run, seconds["training"] = fit_run(images, request.options, request.out, progress, tell)
        checkpoint = run / CHECKPOINT
    detector = methods.load_detector(checkpoint)
    info = detector.info
    if request.checkpoint is not None:
        _check_is_as_asked(checkpoint, info, request)
    if request.false_alarms is not None:
        detector = detector.keeping(request.false_alarms)
    tell(detector.promise(request.false_alarms))
    tell(f"Using {checkpoint}")
    split = make_split(images, info.protocol, info.seed)
    if not info.protocol.leaky:
        check_unseen(split.test, info.seen)
    start = time.perf_counter()
    evaluation = evaluate(detector, split.test, progress)
    seconds["inspecting"] = time.perf_counter() - start

    if run is None:
        run = new_run(folder)
        write_manifest(run / methods.MANIFEST, split, info.protocol, info.seed)
    synthetic = is_synthetic(request.data)
    result = {
        "category": name,
        "data": str(request.data),
        "synthetic": synthetic,
        "protocol": _describe_protocol(info.protocol),
        "leaky": info.protocol.leaky,
        "method": info.method,
        "model": info.model,
        "seed": info.seed,
        "alignment": describe_alignment(detector),
        "tiles": describe_tiling(detector),
        "suspicious_training_images": ", ".join(info.suspicious) or "none",
        "checkpoint": str(checkpoint),
        "image_size": detector.image_size,
        "image_threshold": detector.image_threshold,
        "pixel_threshold": detector.pixel_threshold,
        "map_level": detector.level,
        "promise": detector.promise(request.false_alarms),
        "seconds": {what: round(spent, 1) for what, spent in seconds.items()},
        "versions": {name: version(name) for name in ("sw-anomaly", "sw-models", "sw-ops", "torch", "timm")},
        **evaluation.as_dict(),
    }
    text = json.dumps(result, indent=2, allow_nan=False)
    write_atomically(run / "results.json", lambda path: path.write_text(text + "\n"))
    evaluation.statistics.save(run / "images.npz")  # for sw-anomaly compare
    section = describe(evaluation, result, detector.info.intensity)
    write_sections(run / "report.html", [section])
    return Outcome(run, result, section, evaluation)


def _check_is_as_asked(checkpoint: Path, info: DetectorInfo, request: Request) -> None:
    protocol = info.protocol
    has = {
        "category": info.category,
        "method": info.method,
        "model": info.networks.get("unet", "none"),
        "backbone": info.networks.get("patchcore", "none"),
        "protocol": protocol.name,
        "defects": protocol.defects,
        "known_type": protocol.known_type,
        "image_size": info.view.image_size,
        "seed": info.seed,
        "bit_depth": info.intensity.bit_depth,
        "align": "auto" if info.view.crop else "off",
        "tile": "on" if info.view.tiles else "off",
    }
    for name, wanted in {"category": request.category, **request.options}.items():
        if name not in has:
            raise InputError(
                f"--{name}: got {wanted!r}, which no checkpoint tells of itself; want it without --checkpoint"
            )
        if wanted not in ("auto", has[name]):
            raise InputError(f"checkpoint {checkpoint} is for the {name} {has[name]!r}; {wanted!r} is wanted")


def _describe_protocol(protocol: Protocol) -> str:
    if protocol.name != "supervised":
        return protocol.name
    kind = f"of the type {protocol.known_type}" if protocol.known_type else "of all types"
    return f"supervised, {protocol.defects} defective images {kind}"
