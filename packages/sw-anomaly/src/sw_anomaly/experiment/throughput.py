"""How many images ``sw-anomaly predict`` inspects in a second, and what takes the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from sw_anomaly.data.sources import Source
from sw_anomaly.evaluation.evaluate import Detector
from sw_anomaly.experiment.predict import predict
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError

WARM_UP = 3  # images that are inspected before the clock starts


@dataclass(frozen=True)
class Throughput:
    """Images per second, and the share of the time by kind of work: reading, model, writing."""

    images_per_second: float
    shares: dict[str, float]


def measure(detector: Detector, sources: Sequence[Source], count: int, progress: Progress = silent) -> Throughput:
    """Inspect ``count`` files as ``predict`` does, writing included; fewer sources are gone through again.

    Raises ``InputError`` if one cannot be read.
    """
    with TemporaryDirectory() as folder:
        predict(detector, islice(cycle(sources), WARM_UP), Path(folder), WARM_UP)
        found = predict(detector, islice(cycle(sources), count), Path(folder), count, progress)
    if found.unreadable:
        raise InputError(found.unreadable[0])
    seconds = sum(found.seconds.values())
    return Throughput(found.images / seconds, {work: spent / seconds for work, spent in found.seconds.items()})
