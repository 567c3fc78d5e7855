"""Adding new good images to a detector, in a fraction of the time that fitting one takes.

What is remembered of the former ones is kept, and so are their scores, which count for thresholds beside those of the
new ones. A network is trained for a quarter of the epochs, on all images that there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from sw_anomaly.config import CHECKPOINT, CONFIG, read_config
from sw_anomaly.data.category import Category, count
from sw_anomaly.data.manifest import digest, picture_digest, write_manifest
from sw_anomaly.data.splits import Protocol, make_split
from sw_anomaly.detector import Detector, load_detector
from sw_anomaly.experiment.fit import MANIFEST, Shown, defect_radius
from sw_anomaly.experiment.folders import new_run
from sw_anomaly.methods.base import Method
from sw_anomaly.methods.calibration import combine
from sw_anomaly.methods.ensemble import Ensemble
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.patchcore import PatchCore
from sw_anomaly.methods.unet.batches import Views
from sw_anomaly.methods.unet.method import UNetMethod
from sw_anomaly.methods.unet.training import NETWORK, STATE, train_network
from sw_anomaly.progress import Progress, silent
from sw_anomaly.threads import using_threads
from sw_models.errors import InputError
from sw_models.files import lock_folder, write_atomically

SHORTER = 4  # times fewer epochs, at a learning rate that is as many times smaller


def extend(
    images: Category,
    former: Path,
    out: Path,
    false_alarms: float | None = None,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Add those good images that a run has not seen to what it knows.

    Args:
        images: The category; former images need not be there, but then a network is trained on the new ones alone.
        former: Folder of the run, which is left as it is.
        out: Folder of runs.
        false_alarms: The rate that the new thresholds keep; None for those in balance.
        progress: Told of each step.
        tell: Told what is worth knowing.

    Returns:
        The new run's folder.

    Raises:
        InputError: If the run is not one that can be added to, or there is no new image.
    """
    detector, config = load_detector(former / CHECKPOINT), read_config(former)
    info = detector.info
    if config is None or info.good is None or info.protocol != Protocol():
        raise InputError(f"--continue-from: got {former}, want a run of this version that saw good images alone")
    if info.category != images.name:
        raise InputError(f"--continue-from: got a run on {info.category!r}, want one on {images.name!r}")
    known = set(info.seen)
    new = tuple(image for image in images.train if picture_digest(image) not in known)
    if not new:
        raise InputError(f"--continue-from: got {count(images.train, 'image')} that {former} has seen, want new ones")
    tell(f"{count(new, 'new good image')}, and what {former} knows of {len(known)}")
    config = replace(
        config,
        training_images=digest(images.train),
        epochs=max(config.epochs // SHORTER, 1),
        learning_rate=config.learning_rate / SHORTER,
        false_alarms=false_alarms,
    )
    split = make_split(replace(images, train=new), info.protocol, config.seed)
    radius = defect_radius(config, info.view.tiles)
    shown = Shown(split, info.view, info.intensity, config.seed, progress, radius)
    run = new_run(out / images.name)
    with lock_folder(run):
        write_atomically(run / CONFIG, lambda path: path.write_text(json.dumps(asdict(config), indent=2) + "\n"))
        write_manifest(run / MANIFEST, split, info.protocol, config.seed)

        def save(network: UNetMethod) -> None:
            Detector(network, replace(info, method="unet")).save(run / NETWORK)

        parts: dict[str, Method] = {}
        for name, part in detector.parts.items():
            if isinstance(part, UNetMethod):
                old = [image for image in images.train if image not in new]
                seen = ([*split.train, *old], info.view, info.intensity, progress)
                views = Views(*seen, radius=radius) if old else shown.views
                with using_threads(config.threads):
                    train_network(views, shown.validation, config, run, save, progress, part)
                parts[name] = load_detector(run / NETWORK).method
            elif isinstance(part, PatchBank):
                parts[name] = PatchBank.fit(shown.remembered, config.image_size, config.seed, progress, part)
            elif isinstance(part, PatchCore):
                given = (shown.remembered, config.image_size, config.seed, progress, shown.numbers, part)
                parts[name] = PatchCore.fit(part.backbone, *given)
            parts[name].tiles = info.view.tiles
        units = detector.method.units.cpu().numpy() if isinstance(detector.method, Ensemble) else None
        defects = shown.defects("unet" in parts)
        method, thresholds = combine(parts, shown.good, shown.held_out, defects, progress, info.good, units)
        suspects = tuple(str(shown.images[number].path) for number in thresholds.suspects)
        added = replace(
            info,
            training_images=config.training_images,
            seen=(*info.seen, *(picture_digest(image) for image in new)),
            suspicious=(*info.suspicious, *suspects),
            image_threshold=thresholds.image,
            pixel_threshold=thresholds.pixel,
            good=thresholds.good,
        )
        extended = Detector(method, added)
        (extended if false_alarms is None else extended.keeping(false_alarms)).save(run / CHECKPOINT)
        for rest in (NETWORK, STATE):
            (run / rest).unlink(missing_ok=True)
    return run
