"""``sw-seg check``: a data folder looked at whole, and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from sw_models.images import MAX_PIXELS
from sw_models.sources import read_image
from sw_seg.folder import SegFolder, look_at_folder
from sw_seg.labels import read_values
from sw_seg.layouts import prepare
from sw_sparse.openmmlab.data_report import DataReport, cell_scale, contact_sheet, spread_out

_SHOWN = 9  # images of each split, each beside its label map
_NO_CLASS = (255, 255, 255)


def check(data: Path, options: Mapping[str, Any]) -> tuple[DataReport, Callable[[], Image.Image]]:
    """Return what is in a data folder, and a function that draws some of it.

    Raises:
        InputError: the layout is not as wanted, or the classes are not clear.
    """
    made = TemporaryDirectory()
    folder = look_at_folder(prepare(data, Path(made.name), options), options)
    title = f"{data.name}: images and their labels as they are trained on; white is no class"
    max_pixels = options.get("max_pixels", MAX_PIXELS)

    def draw() -> Image.Image:
        with made:
            return contact_sheet(_cells(folder, max_pixels), title)

    return folder.report, draw


def config_for(data: Path, options: Mapping[str, Any]) -> str:
    """Return the configuration for somebody's own data."""
    return "upernet_nano"


def _cells(folder: SegFolder, max_pixels: int) -> Iterator[tuple[str, Image.Image]]:
    for split in folder.splits:
        for image_file, label_file in spread_out(folder.pairs(split), _SHOWN):
            image = Image.fromarray(read_image(image_file, max_pixels))
            scale = cell_scale(*image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            values = read_values(label_file, max_pixels)
            colors = np.full((*values.shape, 3), _NO_CLASS, dtype=np.uint8)
            names = []
            for name, value, color in zip(folder.classes, folder.values, folder.palette, strict=True):
                if (here := values == value).any():
                    colors[here] = color
                    names.append(name)
            yield f"{split}: {image_file.name}", image.resize(size, Image.Resampling.BILINEAR)
            yield ", ".join(names) or "no class", Image.fromarray(colors).resize(size, Image.Resampling.NEAREST)
