"""Inspecting images that nobody has labelled: a heat map and a mask of each, and a table of scores.

One image is in memory at a time, and each is written before the next is read.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sw_anomaly.evaluation.evaluate import Detector, decide
from sw_anomaly.progress import Progress, silent
from sw_anomaly.report.heat_maps import overlay
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS
from sw_models.sources import Source, read_source

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what spreadsheets take for its beginning
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
    detector: Detector,
    sources: Iterable[Source],
    folder: Path,
    total: int,
    progress: Progress = silent,
    max_pixels: int = MAX_PIXELS,
) -> Predictions:
    """Inspect images; write ``scores.csv``, ``heat_maps/`` and ``masks/``.

    A heat map lies over its image, with the threshold in the middle of the colors and what reaches it outlined; a mask
    is 255 there and 0 elsewhere.

    Args:
        detector: What inspects.
        sources: Files with the images.
        folder: Where everything is written.
        total: Number of sources.
        progress: Told of each image.
        max_pixels: The largest image that is decoded.

    Returns:
        What came of it. What cannot be read, or has no score, is noted there and in the table, and passed over.
    """
    found = Predictions()
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()

        def write(row: Mapping[str, object]) -> None:
            table.writerow({column: harmless(value) for column, value in row.items()})
            file.flush()

        for number, source in enumerate(sources, start=1):
            try:
                for name, image in _read(source, max_pixels, found):
                    frame = int(name.name) if source.is_video else None
                    row = _inspect(detector, image, folder, name, found)
                    write({"path": source.path, "frame": frame, **row})
                    progress("inspecting", number - 1, total, f"{found.images} images, {found.defective} defective")
            except InputError as error:
                found.unreadable.append(str(error))
                write({"path": source.path, "error": error})
            progress("inspecting", number, total, f"{found.images} images, {found.defective} defective")
    return found


def harmless(value: object) -> object:
    """Keep spreadsheets from taking a text for a formula, as OWASP advises against "CSV injection".

    Args:
        value: What a cell of a table is to hold.

    Returns:
        Text that begins like a formula with an apostrophe before it, everything else as it is.
    """
    text = str(value)
    return f"'{text}" if not isinstance(value, int | float) and text.startswith(FORMULA) else value


def _read(source: Source, max_pixels: int, found: Predictions) -> Iterator[tuple[Path, np.ndarray]]:
    images = read_source(source, max_pixels, any_depth=True)
    while True:
        with found.timed("reading"):
            read = next(images, None)
        if read is None:
            return
        yield read


def _inspect(detector: Detector, image: np.ndarray, folder: Path, name: Path, found: Predictions) -> dict[str, object]:
    """Return what a row of the table says of an image, of which heat map and mask are written."""
    with found.timed("model"):
        inspection = detector.inspect(image)
    verdict = decide(detector, inspection)
    with found.timed("writing"):
        shown = detector.intensity.displayed(image)
        over = overlay(shown, inspection.map, detector.pixel_threshold, verdict.pixels, detector.level)
        score = inspection.score
        del inspection  # the map of a large image takes more memory than the image
        mask = verdict.pixels.astype(np.uint8) * np.uint8(255)
        heat_map = _save(over, folder, Path("heat_maps", f"{name}.jpg"), quality=90)
        mask_file = _save(mask, folder, Path("masks", f"{name}.png"), compress_level=1)
    found.images += 1
    found.defective += verdict.is_defective
    return {
        "score": f"{score:.6g}",
        "verdict": "defective" if verdict.is_defective else "good",
        "heat_map": heat_map,
        "mask": mask_file,
    }


def _save(pixels: np.ndarray, folder: Path, name: Path, **options: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return name
