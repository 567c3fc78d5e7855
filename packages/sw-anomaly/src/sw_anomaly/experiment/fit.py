"""The methods by name: fitting any of them, and reading what any of them saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from sw_anomaly.data.manifest import picture_digest, write_manifest
from sw_anomaly.data.mvtec import LabelledImage, load_image
from sw_anomaly.data.splits import Protocol, Split
from sw_anomaly.detector import DetectorInfo, Method, Thresholds, TrainedDetector, calibrate, read_info
from sw_anomaly.methods.ensemble import UNITS, Combined, add, find_units
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.patchcore import PatchCore, create_backbone
from sw_anomaly.methods.unet.batches import Views, make_validation
from sw_anomaly.methods.unet.method import Segmenter
from sw_anomaly.methods.unet.training import CHECKPOINT, CONFIG, NETWORK, STATE, TrainingConfig, train_network
from sw_anomaly.preprocessing.pose import Alignment, learn_alignment
from sw_anomaly.preprocessing.view import Framing, scale_down
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError
from sw_models.files import write_atomically

MANIFEST = "manifest.json"
LOOKED_AT = 64  # images that decide about alignment


def fit(split: Split, config: TrainingConfig, folder: Path, progress: Progress = silent) -> TrainedDetector:
    """Fit a detector to ``split.train``; ``split.validation`` gives thresholds and the epoch to keep.

    Writes ``config.json``, ``manifest.json`` and ``checkpoint.safetensors`` to ``folder``. Called again on a folder
    where it was interrupted it continues.
    """
    protocol = Protocol(config.protocol, config.defects, config.known_type)
    write_atomically(folder / CONFIG, lambda path: path.write_text(json.dumps(asdict(config), indent=2) + "\n"))
    write_manifest(folder / MANIFEST, split, protocol, config.seed)
    alignment = _align(split.train, config)
    progress("looking for an axis", 1, 1, alignment.finding)
    framing = Framing(config.image_size, alignment.crop)
    views = Views(split.train, framing, progress)
    validation = make_validation(Views(split.validation, framing), config.seed)
    seen = tuple(picture_digest(image.path) for image in (*split.train, *split.validation))

    name = config.method
    if name == "auto":  # the bank compares places, which parts in one pose have in common
        name = "unet+bank" if framing.crop else "unet"

    def save(name: str, method: Method, thresholds: Thresholds, path: Path) -> None:
        info = DetectorInfo(
            category=config.category,
            method=name,
            model=config.model,
            protocol=protocol,
            seed=config.seed,
            training_images=config.training_images,
            seen=seen,
            framing=framing,
            alignment=alignment.finding,
            image_threshold=thresholds.image,
            pixel_threshold=thresholds.pixel,
        )
        TrainedDetector(method, info).save(path)

    parts: dict[str, Method] = {}
    if "unet" in name:
        best = partial(save, "unet", path=folder / NETWORK)
        train_network(views, validation, config, folder, best, progress)
        parts["unet"] = load_detector(folder / NETWORK).method
    good = views.pixels[views.good]
    if "bank" in name:
        parts["bank"] = PatchBank.fit(good, config.image_size, config.seed, progress)
    if name == "patchcore":
        weights = Path(config.weights) if config.weights else None
        backbone = create_backbone(config.model, weights, config.seed)
        parts["patchcore"] = PatchCore.fit(backbone, good, config.image_size, config.seed, progress)
    method, thresholds = _calibrate(parts, validation, progress)
    save(name, method, thresholds, folder / CHECKPOINT)
    for rest in (NETWORK, STATE):
        (folder / rest).unlink(missing_ok=True)
    return load_detector(folder / CHECKPOINT)


def _calibrate(
    parts: dict[str, Method], validation: Sequence[tuple[np.ndarray, np.ndarray]], progress: Progress
) -> tuple[Method, Thresholds]:
    """The one part, or all combined, with the thresholds that the validation cases give."""
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
    return Combined(parts, units), calibrate([add(found, units) for found in inspections], masks)


def _align(images: Sequence[LabelledImage], config: TrainingConfig) -> Alignment:
    if config.align == "off":
        return Alignment(None, "off")
    good = [image for image in images if image.is_good]
    some = good[:: max(len(good) // LOOKED_AT, 1)]
    return learn_alignment([scale_down(load_image(image.path), config.image_size) for image in some])


PARTS: dict[str, Any] = {"unet": Segmenter, "bank": PatchBank, "patchcore": PatchCore}
METHODS = ("unet", "bank", "unet+bank", "patchcore")


def load_detector(path: Path) -> TrainedDetector:
    """Read a checkpoint that ``fit`` wrote; raises ``InputError`` if it is anything else."""
    info = read_info(path)
    if info.method not in METHODS:
        raise InputError(f"checkpoint {path} is of the method {info.method!r}; one of {', '.join(METHODS)} is wanted")
    try:
        return TrainedDetector(_restore(info, load_file(path)), info)
    except InputError as error:
        raise InputError(f"checkpoint {path} {error}") from error


def _restore(info: DetectorInfo, tensors: dict[str, Tensor]) -> Method:
    names = info.method.split("+")
    if len(names) == 1:
        return PARTS[info.method].from_tensors(tensors, info.model, info.framing.image_size)
    parts = {}
    for name in names:
        held = {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
        parts[name] = PARTS[name].from_tensors(held, info.model, info.framing.image_size)
    return Combined(parts, tensors[UNITS].numpy())
