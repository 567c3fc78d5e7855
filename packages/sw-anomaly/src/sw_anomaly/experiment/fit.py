"""Fitting any of the methods to a split, and what a run's folder holds afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sw_anomaly.config import CHECKPOINT, CONFIG, TrainingConfig
from sw_anomaly.data.category import LabelledImage
from sw_anomaly.data.intensity import Intensity, learn_intensity
from sw_anomaly.data.manifest import picture_digest, write_manifest
from sw_anomaly.data.splits import Protocol, Split
from sw_anomaly.detector import Detector, DetectorInfo, load_detector
from sw_anomaly.methods.base import Method
from sw_anomaly.methods.calibration import Thresholds, combine
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.patchcore import PatchCore, create_backbone
from sw_anomaly.methods.unet.batches import Views, make_validation
from sw_anomaly.methods.unet.method import UNetMethod
from sw_anomaly.methods.unet.training import NETWORK, STATE, train_network
from sw_anomaly.preprocessing.pose import Alignment, learn_alignment
from sw_anomaly.preprocessing.view import View, scale_down
from sw_anomaly.progress import Progress, silent
from sw_models.files import write_atomically

MANIFEST = "manifest.json"
ALIGNMENT_IMAGES = 64  # good images, at most, that decide about alignment
DEFECTS_ON = 32  # good training views, at most, that defects are drawn on for thresholds beside held-out ones


def fit(split: Split, config: TrainingConfig, folder: Path, progress: Progress = silent) -> Detector:
    """Fit a detector to ``split.train``; ``split.validation`` gives thresholds and the epoch to keep.

    Writes ``config.json``, ``manifest.json`` and ``checkpoint.safetensors`` to ``folder``. Called again on a folder
    where it was interrupted it continues.
    """
    protocol = Protocol(config.protocol, config.defects, config.known_type)
    write_atomically(folder / CONFIG, lambda path: path.write_text(json.dumps(asdict(config), indent=2) + "\n"))
    write_manifest(folder / MANIFEST, split, protocol, config.seed)
    intensity = learn_intensity(split.train, config.bit_depth, progress)
    alignment = _align(split.train, config, intensity)
    progress("looking for an axis", 1, 1, alignment.finding)
    view = View(config.image_size, alignment.crop)
    views = Views(split.train, view, intensity, progress)
    held_out = Views(split.validation, view, intensity)
    validation = make_validation(held_out, config.seed)
    seen = tuple(picture_digest(image) for image in (*split.train, *split.validation))

    name = config.method
    if name == "auto":  # the bank compares places, which parts in one pose have in common
        name = "unet+bank" if view.crop else "unet"

    def save(name: str, method: Method, thresholds: Thresholds, path: Path) -> None:
        info = DetectorInfo(
            category=config.category,
            method=name,
            model=config.model,
            protocol=protocol,
            seed=config.seed,
            training_images=config.training_images,
            seen=seen,
            view=view,
            intensity=intensity,
            alignment=alignment.finding,
            image_threshold=thresholds.image,
            pixel_threshold=thresholds.pixel,
            good=thresholds.good,
        )
        Detector(method, info).save(path)

    good = np.concatenate([held_out.pixels[held_out.good], views.pixels[views.good]])
    defects = [case for case in validation if case.mask.any()]

    def save_network(network: UNetMethod) -> None:
        method, thresholds = combine({"unet": network}, good[: len(held_out.good) or None], len(held_out.good), defects)
        save("unet", method, thresholds, folder / NETWORK)

    parts: dict[str, Method] = {}
    if "unet" in name:
        train_network(views, validation, config, folder, save_network, progress)
        parts["unet"] = load_detector(folder / NETWORK).method
    else:
        more = make_validation(views, config.seed, DEFECTS_ON, first=len(held_out.good))
        defects += [case for case in more if case.mask.any()]
    if "bank" in name:
        parts["bank"] = PatchBank.fit(good, config.image_size, config.seed, progress)
    if name == "patchcore":
        weights = Path(config.weights) if config.weights else None
        backbone = create_backbone(config.model, weights, config.seed)
        parts["patchcore"] = PatchCore.fit(backbone, good, config.image_size, config.seed, progress)
    method, thresholds = combine(parts, good, len(held_out.good), defects, progress)
    save(name, method, thresholds, folder / CHECKPOINT)
    for rest in (NETWORK, STATE):
        (folder / rest).unlink(missing_ok=True)
    return load_detector(folder / CHECKPOINT)


def _align(images: Sequence[LabelledImage], config: TrainingConfig, intensity: Intensity) -> Alignment:
    if config.align == "off":
        return Alignment(None, "off")
    good = [image for image in images if image.is_good]
    some = good[:: max(len(good) // ALIGNMENT_IMAGES, 1)]
    return learn_alignment([scale_down(intensity.levels(image.pixels()), config.image_size) for image in some])
