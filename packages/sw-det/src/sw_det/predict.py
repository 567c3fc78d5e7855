"""``sw-det predict``: pictures for people, COCO annotations for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sw_det.detector import Detector
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_models.sources import Source


def predict(
    model: Any, sources: Sequence[Source], folder: Path, options: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Write a picture of what was found for each image, and ``predictions.json``.

    A picture is ``<name>.png``, in subfolders as the images are. ``predictions.json`` is a COCO data set of what was
    found: its annotations have a "score", and its categories are the model's classes, counted from 1. It is written
    even where the caller stops in between.

    Args:
        model: MMDetection's, with ``cfg`` and ``dataset_meta``; without classes in it they are COCO's.
        sources: images and videos.
        folder: an existing, empty folder.
        options: of :class:`.Detector`, such as "threshold" and "tile".

    Yields:
        For each image "image", "picture" and "instances", its annotations; or "image" and "error".
    """
    detector = Detector(model=model, **options or {})
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    try:
        for source in sources:
            for name, detections in detector.stream([source]):
                if isinstance(detections, InputError):
                    yield {"image": str(source.path), "error": str(detections)}
                    continue
                picture = folder / f"{name}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                detections.draw().save(picture)
                height, width = detections.image.shape[:2]
                entry = {"id": len(entries) + 1, "file_name": str(source.path), "width": width, "height": height}
                if source.is_video:
                    entry["frame"] = int(name.name)
                entries.append(entry)
                found = detections.to_coco(len(entries), len(annotations) + 1)
                annotations += found
                yield {"image": str(source.path), "picture": str(picture), "instances": found}
    finally:
        categories = [{"id": i, "name": name} for i, name in enumerate(detector.classes, start=1)]
        content = {"images": entries, "annotations": annotations, "categories": categories}
        text = json.dumps(content, allow_nan=False)
        write_atomically(folder / "predictions.json", lambda file: file.write_text(text))
