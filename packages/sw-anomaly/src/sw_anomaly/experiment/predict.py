"""Inspecting images that nobody has labelled: a heat map and a mask of each, and a table of scores.

One image is in memory at a time, and each is written before the next is read.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sw_anomaly.data.sources import Picture, Source, pictures_of
from sw_anomaly.evaluation.evaluate import Detector
from sw_anomaly.progress import Progress, silent
from sw_anomaly.report import heat_maps as pictures
from sw_models.errors import InputError

COLUMNS = ("path", "frame", "score", "verdict", "heat_map", "mask", "error")


@dataclass
class Predictions:
    """What came of it: numbers of images and of defective ones, what could not be read, seconds by kind of work."""

    images: int = 0
    defective: int = 0
    unreadable: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"reading": 0.0, "model": 0.0, "writing": 0.0})

    @contextmanager
    def timed(self, work: str) -> Iterator[None]:
        """Add the time that a block takes to that kind of work."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[work] += time.perf_counter() - start


def predict(
    detector: Detector, sources: Iterable[Source], folder: Path, total: int, progress: Progress = silent
) -> Predictions:
    """Inspect every image in the ``total`` sources; write ``scores.csv``, ``heat_maps/`` and ``masks/`` to ``folder``.

    A heat map lies over its image, with the threshold in the middle of the colours and what reaches it outlined; a mask
    is 255 there and 0 elsewhere. What cannot be read is noted, in the table too, and passed over.
    """
    found = Predictions()
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for number, source in enumerate(sources, start=1):
            try:
                for picture, image in _read(source, found):
                    table.writerow(_inspect(detector, picture, image, folder, found))
                    file.flush()
                    progress("inspecting", number - 1, total, f"{found.images} images, {found.defective} defective")
            except InputError as error:
                found.unreadable.append(str(error))
                table.writerow({"path": source.path, "error": error})
            progress("inspecting", number, total, f"{found.images} images, {found.defective} defective")
    return found


def _read(source: Source, found: Predictions) -> Iterator[tuple[Picture, np.ndarray]]:
    opened = pictures_of(source)
    while True:
        with found.timed("reading"):
            picture = next(opened, None)
            if picture is None:
                return
            image = picture.load()
        yield picture, image


def _inspect(
    detector: Detector, picture: Picture, image: np.ndarray, folder: Path, found: Predictions
) -> dict[str, object]:
    """A row of the table; the pictures are written."""
    with found.timed("model"):
        inspection = detector.inspect(image)
    is_defective = inspection.score >= detector.image_threshold
    with found.timed("writing"):
        over = pictures.overlay(image, inspection.map, detector.pixel_threshold)
        mask = np.where(inspection.map >= detector.pixel_threshold, 255, 0).astype(np.uint8)
        heat_map = _save(over, folder, Path("heat_maps", f"{picture.name}.jpg"), quality=90)
        mask_file = _save(mask, folder, Path("masks", f"{picture.name}.png"), compress_level=1)
    found.images += 1
    found.defective += is_defective
    return {
        "path": picture.path,
        "frame": picture.frame,
        "score": f"{inspection.score:.6g}",
        "verdict": "defective" if is_defective else "good",
        "heat_map": heat_map,
        "mask": mask_file,
    }


def _save(pixels: np.ndarray, folder: Path, name: Path, **options: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return name
