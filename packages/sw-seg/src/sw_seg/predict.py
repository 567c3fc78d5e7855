"""``sw-seg predict``: pictures for people, label maps for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_models.sources import Source
from sw_seg.segmenter import Segmentation, Segmenter


def predict(
    model: Any, sources: Sequence[Source], folder: Path, options: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Write ``<name>.png``, the image in the classes' colors with a legend, and ``<name>_labels.png`` for each image.

    Label maps have the numbers of the data that the model was trained on.
    ``predictions.json`` gathers what is yielded: for each image its files and each class's share of the pixels. It is
    written even where the caller stops in between.

    Args:
        model: MMSegmentation's, with ``cfg`` and ``dataset_meta``.
        sources: images and videos.
        folder: an existing, empty folder.
        options: of :class:`.Segmenter`, such as "tile".

    Yields:
        For each image "image", "overlay", "labels" and "shares"; or "image" and "error".
    """
    segmenter = Segmenter(model=model, **options or {})
    values = _values(model.dataset_meta, len(segmenter.classes))
    records: list[dict[str, Any]] = []
    try:
        for source in sources:
            for name, found in segmenter.stream([source]):
                if isinstance(found, InputError):
                    yield {"image": str(source.path), "error": str(found)}
                    continue
                while (folder / f"{name}.png").exists():  # the label map of an image whose name this one adds to
                    name = name.with_name(f"{name.name}-image")
                overlay, label_file = folder / f"{name}.png", folder / f"{name}_labels.png"
                overlay.parent.mkdir(parents=True, exist_ok=True)
                found.draw().save(overlay)
                _label_map(found, values).save(label_file)
                shares = {kind: round(share, 4) for kind, share in found.shares.items()}
                record = {"image": str(source.path), "overlay": str(overlay), "labels": str(label_file)}
                records.append({**record, "shares": shares})
                yield records[-1]
    finally:
        text = json.dumps({"classes": list(segmenter.classes), "images": records}, indent=1, allow_nan=False)
        write_atomically(folder / "predictions.json", lambda file: file.write_text(text))


def _values(meta: Mapping[str, Any], count: int) -> list[int]:
    """Return the number of each class in the maps that a model was trained on; colors are numbered from 0."""
    first = 1 if meta.get("reduce_zero_label") else 0
    found = meta.get("values") or list(range(first, first + count))
    values = found if isinstance(found, list | tuple) else []
    if len(values) != count or not all(isinstance(value, int) and 0 <= value < 1 << 24 for value in values):
        raise InputError(f"checkpoint: got the values {str(found)[:80]}, want a number for each of {count} classes")
    return list(values) if max(values) < 256 else list(range(count))


def _label_map(found: Segmentation, values: Sequence[int]) -> Image.Image:
    """Return the labels, numbered by ``values``, as an image whose colors are the classes'."""
    label_map = Image.fromarray(np.array(values, dtype=np.uint8)[found.labels.numpy()], mode="P")
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[list(values)] = found.palette
    label_map.putpalette(palette.ravel().tolist())
    return label_map
