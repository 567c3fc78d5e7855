"""How many images ``sw-anomaly predict`` inspects in a second, and what takes the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from sw_anomaly.evaluation.evaluate import Detector
from sw_anomaly.experiment.predict import predict
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS
from sw_models.sources import Source

WARM_UP = 3  # images that are inspected before the clock starts


@dataclass(frozen=True)
class Throughput:
    """Images per second, and the share of the time by kind of work: reading, model, writing."""

    images_per_second: float
    shares: dict[str, float]


def measure(
    detector: Detector,
    sources: Sequence[Source],
    count: int,
    progress: Progress = silent,
    max_pixels: int = MAX_PIXELS,
) -> Throughput:
    """Inspect files as ``predict`` does, writing included.

    Args:
        detector: What inspects.
        sources: The files; fewer than ``count`` are gone through again.
        count: Number of files.
        progress: Told of each image.
        max_pixels: The largest image that is decoded.

    Raises:
        InputError: If a file cannot be read.
    """
    with TemporaryDirectory() as folder:
        predict(detector, islice(cycle(sources), WARM_UP), Path(folder), WARM_UP, max_pixels=max_pixels)
        found = predict(detector, islice(cycle(sources), count), Path(folder), count, progress, max_pixels)
    if found.unreadable:
        raise InputError(found.unreadable[0])
    seconds = sum(found.seconds.values())
    return Throughput(found.images / seconds, {work: spent / seconds for work, spent in found.seconds.items()})
