"""``sw-seg predict``: pictures for people, label maps for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_models.sources import Source
from sw_seg.segmenter import Segmentation, Segmenter


def predict(model: Any, sources: Sequence[Source], folder: Path) -> Iterator[dict[str, Any]]:
    """Write ``<name>.png``, the image in the classes' colors with a legend, and ``<name>_labels.png`` for each image.

    Label maps have the numbers of the data that the model was trained on: from 1 where 0 is no class, else from 0.
    ``predictions.json`` gathers what is yielded: for each image its files and each class's share of the pixels. It is
    written even where the caller stops in between.

    Args:
        model: MMSegmentation's, with ``cfg`` and ``dataset_meta``.
        sources: images and videos.
        folder: an existing, empty folder.

    Yields:
        For each image "image", "overlay", "labels" and "shares"; or "image" and "error".
    """
    segmenter = Segmenter(model=model)
    first = 1 if model.dataset_meta.get("reduce_zero_label") else 0
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
                _label_map(found, first).save(label_file)
                shares = {kind: round(share, 4) for kind, share in found.shares.items()}
                record = {"image": str(source.path), "overlay": str(overlay), "labels": str(label_file)}
                records.append({**record, "shares": shares})
                yield records[-1]
    finally:
        text = json.dumps({"classes": list(segmenter.classes), "images": records}, indent=1, allow_nan=False)
        write_atomically(folder / "predictions.json", lambda file: file.write_text(text))


def _label_map(found: Segmentation, first: int) -> Image.Image:
    """Return the labels, counted from ``first``, as an image whose colors are the classes'."""
    label_map = Image.fromarray((found.labels.numpy() + first).astype(np.uint8), mode="P")
    label_map.putpalette([0] * 3 * first + [value for color in found.palette for value in color])
    return label_map
