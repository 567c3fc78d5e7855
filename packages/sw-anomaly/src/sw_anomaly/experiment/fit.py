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
from sw_anomaly.data.splits import HELD_OUT, Protocol, Split
from sw_anomaly.detector import Detector, DetectorInfo, load_detector
from sw_anomaly.methods.base import Method
from sw_anomaly.methods.calibration import Case, GoodViews, Thresholds, combine
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.patchcore import PACKAGED, PatchCore, create_backbone, default_backbone
from sw_anomaly.methods.unet.batches import TILES, Views, make_validation
from sw_anomaly.methods.unet.method import UNetMethod
from sw_anomaly.methods.unet.synthetic_defects import RADIUS
from sw_anomaly.methods.unet.training import NETWORK, STATE, train_network
from sw_anomaly.preprocessing.pose import Alignment, learn_alignment
from sw_anomaly.preprocessing.tiles import choose_tiling
from sw_anomaly.preprocessing.view import View, scale_down
from sw_anomaly.progress import Progress, silent
from sw_anomaly.threads import using_threads
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_models.images import open_image

MANIFEST = "manifest.json"
ALIGNMENT_IMAGES = 64  # good images, at most, that decide about alignment
HELD_OUT_TILES = 96  # at most, that tell which epoch is the best
LARGEST_IN_TILES = 5  # times the smallest synthetic defect; larger ones would hide it
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
    tiles, tiling = _choose_tiling(split.train, config, alignment)
    progress("looking at sizes", 1, 1, tiling)
    view = View(config.image_size, alignment.crop, tiles)
    shown = Shown(split, view, intensity, config.seed, progress, defect_radius(config, tiles))
    seen = tuple(picture_digest(image) for image in (*split.train, *split.validation))

    networks = {"unet": config.model, "patchcore": config.backbone or default_backbone()}
    name = config.method
    if name == "auto":  # the bank compares places, which parts in one pose have in common; random features help less
        known = networks["patchcore"] == PACKAGED
        name = "unet+bank" if view.crop else "unet+patchcore" if known else "unet"

    def describe(name: str, thresholds: Thresholds | None = None) -> DetectorInfo:
        return DetectorInfo(
            category=config.category,
            method=name,
            model="+".join(networks[part] for part in name.split("+") if part in networks) or "none",
            protocol=protocol,
            seed=config.seed,
            training_images=config.training_images,
            seen=seen,
            view=view,
            intensity=intensity,
            alignment=alignment.finding,
            tiling=tiling,
            image_threshold=thresholds.image if thresholds else 0.0,
            pixel_threshold=thresholds.pixel if thresholds else 0.0,
            good=thresholds.good if thresholds else None,
            suspicious=tuple(str(shown.images[number].path) for number in thresholds.suspects) if thresholds else (),
        )

    def save_network(network: UNetMethod) -> None:
        Detector(network, describe("unet")).save(folder / NETWORK)

    parts: dict[str, Method] = {}
    if "unet" in name:
        with using_threads(config.threads):
            train_network(shown.views, shown.validation, config, folder, save_network, progress)
        parts["unet"] = load_detector(folder / NETWORK).method
    if "bank" in name:
        parts["bank"] = PatchBank.fit(shown.remembered, config.image_size, config.seed, progress)
    if "patchcore" in name:
        weights = Path(config.weights) if config.weights else None
        backbone = create_backbone(networks["patchcore"], weights, config.seed)
        given = (backbone, shown.remembered, config.image_size, config.seed, progress, shown.numbers)
        parts["patchcore"] = PatchCore.fit(*given)
        parts["patchcore"].tiles = tiles
    method, thresholds = combine(parts, shown.good, shown.held_out, shown.defects("unet" in name), progress)
    detector = Detector(method, describe(name, thresholds))
    (detector if config.false_alarms is None else detector.keeping(config.false_alarms)).save(folder / CHECKPOINT)
    for rest in (NETWORK, STATE):
        (folder / rest).unlink(missing_ok=True)
    return load_detector(folder / CHECKPOINT)


def _align(images: Sequence[LabelledImage], config: TrainingConfig, intensity: Intensity) -> Alignment:
    if config.align == "off":
        return Alignment(None, "off")
    good = [image for image in images if image.is_good]
    some = good[:: max(len(good) // ALIGNMENT_IMAGES, 1)]
    return learn_alignment([scale_down(intensity.levels(image.pixels()), config.image_size) for image in some])


def _choose_tiling(images: Sequence[LabelledImage], config: TrainingConfig, alignment: Alignment) -> tuple[bool, str]:
    if alignment.crop or "bank" in config.method:
        reason = "parts are aligned" if alignment.crop else "the method compares places"
        if config.tile == "on":
            raise InputError(f"--tile: got on where {reason}, want auto or off")
        return False, reason
    longest = 0
    for image in images:
        with open_image(image.path, image.max_pixels) as opened:
            longest = max(longest, *opened.size)
    return choose_tiling(config.tile, longest, config.image_size, config.smallest_defect)


def defect_radius(config: TrainingConfig, tiles: bool) -> tuple[float, float]:
    """Return the radii of the smallest and largest synthetic defects; in tiles, of what matters there."""
    smallest = min(config.smallest_defect / 2 / config.image_size, RADIUS[1] / LARGEST_IN_TILES)
    return (smallest, LARGEST_IN_TILES * smallest) if tiles else RADIUS


class Shown:
    """What fitting sees of a split.

    Attributes:
        views: Of the training images.
        validation: Cases on the other ones.
        images: The good images, held-out ones first.
        held_out: How many of them are.
        remembered: Their views, or tiles of them, levels [N, h, w, 3].
        numbers: Of the images that these show.
        good: Their whole views.
    """

    def __init__(
        self,
        split: Split,
        view: View,
        intensity: Intensity,
        seed: int,
        progress: Progress,
        radius: tuple[float, float],
    ) -> None:
        self.seed = seed
        others = Views(split.validation, view, intensity, at_most=round(HELD_OUT * TILES), radius=radius)
        good = [[image for image in part if image.is_good] for part in (split.validation, split.train)]
        self.held_out, self.images = len(good[0]), good[0] + good[1]
        self.views = Views(split.train, view, intensity, progress, first=self.held_out, radius=radius)
        self.validation = make_validation(others, seed, HELD_OUT_TILES if view.tiles else None)
        self.remembered = np.concatenate([one.pixels[one.good] for one in (others, self.views)])
        self.numbers = [number for one in (others, self.views) for number in one.origins if number is not None]
        self.good: GoodViews = _Whole(self.images, view, intensity) if view.tiles else self.remembered

    def defects(self, is_trained: bool) -> list[Case]:
        """Cases with defects: on held-out images, and, unless something was trained on these, on training images."""
        more = [] if is_trained else make_validation(self.views, self.seed, DEFECTS_ON)
        return [case for case in (*self.validation, *more) if case.mask.any()]


class _Whole:
    """Whole views of images, read one at a time."""

    def __init__(self, images: Sequence[LabelledImage], view: View, intensity: Intensity) -> None:
        self.images, self.view, self.intensity = images, view, intensity

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.view.apply(self.intensity.levels(self.images[index].pixels())).pixels
