"""Where COCO folders have their annotation files and images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sw_models.errors import InputError
from sw_models.images import some
from sw_sparse.openmmlab.splits import SPLIT_NAMES

_LABELME_BYTES = 50_000_000  # a file of one image is smaller


@dataclass(frozen=True)
class Split:
    """One annotation file of a COCO folder, and its images.

    Attributes:
        annotations: the JSON file.
        images: the folder that its ``file_name`` entries start from.
    """

    annotations: Path
    images: Path


def find_split(data: Path, name: str) -> Split:
    """Return the split ``name``, such as "train", of the COCO folder ``data``, wherever it usually lies.

    Raises:
        InputError: there is no such folder or file, or there are several that fit.
    """
    if not data.is_dir():
        raise InputError(f"--data: no folder {data}")
    for found in _annotation_files(data, name):
        if len(found) > 1:
            among = ", ".join(str(path.relative_to(data)) for path in found)
            raise InputError(f"--data: want one annotation file for {name} in {data}, found {among}")
        if found:
            return Split(found[0], data)
    raise InputError(
        f"--data: want one file annotations/instances_{name}*.json in {data}, found none (nor "
        f"{name}/_annotations.coco.json, {name}/annotations.json or {name}.json)"
    )


def has_splits(data: Path) -> bool:
    """Whether a folder has COCO files for training and for validation."""
    for name in ("train", "val"):
        found = next(filter(None, _annotation_files(data, name)), [])
        if not found or _is_of_one_image(found[0]):
            return False
    return True


def _is_of_one_image(path: Path) -> bool:
    """Whether a JSON file is Labelme's."""
    try:
        return path.stat().st_size < _LABELME_BYTES and "shapes" in json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError, TypeError):
        return False


def _annotation_files(data: Path, name: str) -> Iterator[list[Path]]:
    """Yield annotation files for a split, place after place."""
    names = SPLIT_NAMES[name]
    yield sorted((data / "annotations").glob(f"instances_{name}*.json"))
    for pattern in ("instances_{}*.json", "annotations/{}*.json", "annotations/*_{}.json", "{}*.json"):
        yield sorted({path for one in names for path in data.glob(pattern.format(one)) if path.is_file()})
    for file in ("_annotations.coco.json", "annotations.json", "instances.json", "*.json"):
        for pattern in (f"{{}}/{file}", f"{{}}[0-9]*/{file}", f"images/{{}}*/{file}"):
            yield sorted({path for one in names for path in data.glob(pattern.format(one)) if path.is_file()})


def image_folder(data: Path, annotations: Path, name: str, files: list[str]) -> Path:
    """Return the folder in which the images lie: the first of the usual ones with all of them."""
    stem = annotations.stem.removeprefix("instances_")
    named = dict.fromkeys((stem, *SPLIT_NAMES[name], f"{name}2017"))
    usual = [data / one for one in named] + [data / "images" / one for one in named]
    usual += [data / one / "images" for one in named] + [annotations.parent, annotations.parent / "images"]
    usual += [data / "images", data]
    there = [folder for folder in dict.fromkeys(usual) if folder.is_dir()]
    absent = {folder: _absent(folder, files) for folder in there}
    best = min(there, key=lambda folder: len(absent[folder]))  # the first of equals
    if absent[best]:
        if len(absent[best]) == len(files):
            best = there[0]
        raise InputError(f"--data: {annotations} names {some(absent[best])}, which is not in {best}")
    return best


def _absent(folder: Path, files: list[str]) -> list[str]:
    """Return the files that are not in a folder, with one listing instead of a look-up for each."""
    with os.scandir(folder) as entries:
        present = {entry.name for entry in entries if entry.is_file()}
    return [file for file in files if file not in present and not (folder / file).is_file()]
