"""Label maps: what their pixels hold, and tables of the colors of classes.

A pixel's value is a number from 0 to 255 in maps of numbers (grey, palette, black and white), and red * 65536 + green *
256 + blue in colored maps.
"""

from __future__ import annotations

import csv
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, UNREADABLE, open_image, orientation_of

IGNORED = 255  # no class: such pixels are neither trained on nor counted
MOST_VALUES = 256  # different ones in a map; photographs and JPEG files have far more
TABLES = ("label_colors.txt", "labelmap.txt", "class_dict.csv")  # CamVid's, CVAT's, and comma-separated

_NUMBERS, _COLORS = ("1", "L", "P"), ("RGB", "RGBA")


@dataclass(frozen=True)
class LabelFacts:
    """What a label map holds.

    Attributes:
        width: in pixels.
        height: in pixels.
        colored: whether its values are colors.
        values: the different values of its pixels.
        problem: why it cannot be used; then nothing else is known.
    """

    width: int = 0
    height: int = 0
    colored: bool = False
    values: tuple[int, ...] = ()
    problem: str = ""

    def pack(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def unpack(cls, held: Any) -> LabelFacts:
        """Return what was packed."""
        return cls(**{**held, "values": tuple(held["values"])})


def read_values(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Return the values of a label map's pixels, ``[height, width]``, upright as its EXIF orientation says.

    Raises:
        InputError: it cannot be read, or is a picture of another kind.
    """
    try:
        with open_image(path, max_pixels) as image:
            if image.mode not in _NUMBERS + _COLORS:
                raise InputError(f"{path} is a picture of mode {image.mode}, want one class number per pixel")
            if image.format == "JPEG":
                raise InputError(f"{path} is a JPEG file, which changes labels, want PNG")
            upright = ImageOps.exif_transpose(image) if orientation_of(image) > 1 else image
            pixels = np.asarray(upright, dtype=np.int32)
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({error})") from error
    return pixels if pixels.ndim == 2 else pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]


def label_facts(path: Path, max_pixels: int = MAX_PIXELS) -> LabelFacts:
    """Decode a label map and return what it holds; one that cannot be used has a ``problem``."""
    try:
        values = read_values(path, max_pixels)
        with open_image(path, max_pixels) as image:
            colored = image.mode in _COLORS
    except InputError as error:
        return LabelFacts(problem=str(error))
    except UNREADABLE as error:
        return LabelFacts(problem=f"{path} cannot be read ({error})")
    if colored:
        different = np.unique(values)
        grey = different >> 16 == different & 255
        if (grey & (different >> 8 & 255 == different & 255)).all():  # numbers, written three times
            return LabelFacts(problem=f"{path} is a grey picture in three channels, want one class number per pixel")
    else:
        different = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).astype(np.int32)
    if len(different) > MOST_VALUES:
        return LabelFacts(problem=f"{path} has {len(different):,} colors, want a color for each class and no others")
    height, width = values.shape
    return LabelFacts(width, height, colored, tuple(int(v) for v in different))


def read_table(folder: Path) -> dict[str, int]:
    """Return the classes of a folder's table of colors, with their values; empty if there is none.

    ``label_colors.txt`` has lines ``R G B name``, ``labelmap.txt`` lines ``name:R,G,B::``, and ``class_dict.csv`` lines
    ``name,R,G,B`` below a heading.

    Raises:
        InputError: a line is none of a table, or a name or a color is there twice.
    """
    file = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if file is None:
        return {}
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"--data: {file} cannot be read ({error})") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if file.suffix == ".csv":
        lines = lines[1:]
    table: dict[str, int] = {}
    for line in lines:
        name, color = _parse(line, file.name)
        if not name or len(color) != 3 or max(color) > 255:
            raise InputError(f"--data: {file} has the line {line[:60]!r}, want a name and red, green, blue to 255")
        value = color[0] << 16 | color[1] << 8 | color[2]
        if name in table or value in table.values():
            raise InputError(f"--data: {file} has a name or a color twice: {line[:60]!r}")
        table[name] = value
    if not table:
        raise InputError(f"--data: {file} has no class")
    return table


def _parse(line: str, kind: str) -> tuple[str, list[int]]:
    """Return the name and the color in a line; [] for a color that is none."""
    if kind == "label_colors.txt":
        found = re.fullmatch(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(.+)", line, re.ASCII)
        return (found[4].strip(), [int(found[i]) for i in (1, 2, 3)]) if found else ("", [])
    if kind == "labelmap.txt":
        name, _, rest = line.partition(":")
        numbers = rest.split(":")[0].split(",")
    else:
        name, *numbers = next(csv.reader([line]))
    whole = [number.strip() for number in numbers]
    return name.strip(), [int(n) for n in whole] if all(re.fullmatch(r"\d{1,3}", n, re.ASCII) for n in whole) else []
