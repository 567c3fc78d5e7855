"""Data folders: images, and maps of the class of every pixel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sw_models.errors import InputError
from sw_sparse.openmmlab.palette import class_colours

SPLITS = {"training": ("training", "train"), "validation": ("validation", "val")}
IGNORED = 255  # no class: such pixels are neither trained on nor counted
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class SegFolder:
    """A data folder that was looked at.

    Attributes:
        path: the folder.
        maps: its subfolder with the label maps: "annotations", where 0 is no class and classes count from 1 as in
            ADE20K, or "labels", where classes count from 0 and 255 is no class.
        classes: the classes' names, in order.
    """

    path: Path
    maps: str
    classes: tuple[str, ...]

    @property
    def zero_is_ignored(self) -> bool:
        """Whether 0 stands for no class."""
        return self.maps == "annotations"

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """A colour for each class; one that is called background is black."""
        found = class_colours(len(self.classes))
        return [(0, 0, 0) if name == "background" else colour for name, colour in zip(self.classes, found, strict=True)]

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """Return the images of "training" or "validation" with their label maps, in the order of their names."""
        return _pairs(self.path, self.maps, split)


def read_folder(path: Path) -> SegFolder:
    """Look at a data folder, including every label map in it.

    The classes are the lines of ``classes.txt``; without it, those of ADE20K where the folder is ADE20K's, and else as
    many as the training maps have, named after their numbers.

    Raises:
        InputError: the layout, an image or a label map is not as wanted; the message names it.
    """
    kinds = [name for name in ("annotations", "labels") if (path / name).is_dir()]
    if not kinds or not (path / "images").is_dir():
        raise InputError(f"--data: {path} has no images/ and annotations/ or labels/, see the README for the layout")
    maps = kinds[0]
    pairs = {split: _pairs(path, maps, split) for split in SPLITS}
    highest = {split: _highest_labels(pairs[split]) for split in SPLITS}
    first = 1 if maps == "annotations" else 0
    classes = _class_names(path) or tuple(
        f"class {number}" for number in range(first, max(highest["training"].values()) + 1)
    )
    if not classes:
        raise InputError(f"--data: the training maps of {path} have no class at all")
    for labels in highest.values():
        for file, label in labels.items():
            if label >= len(classes) + first:
                raise InputError(
                    f"--data: {file} has the class {label}, but there are {len(classes)} classes,"
                    f" {first} to {len(classes) + first - 1}"
                )
    return SegFolder(path, maps, classes)


def _class_names(path: Path) -> tuple[str, ...]:
    file = path / "classes.txt"
    if file.is_file():
        names = tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
        if len(set(names)) != len(names) or not names:
            raise InputError(f"--data: {file} has no line, or one twice; want a different name for each class")
        return names
    if (path / "objectInfo150.txt").is_file():
        from mmseg.datasets import ADE20KDataset

        return tuple(ADE20KDataset.METAINFO["classes"])
    return ()


def _pairs(path: Path, maps: str, split: str) -> list[tuple[Path, Path]]:
    folders = [(path / "images" / name, path / maps / name) for name in SPLITS[split]]
    images, labels = next(((i, m) for i, m in folders if i.is_dir()), folders[0])
    files = sorted(f for f in images.rglob("*") if f.suffix.lower() in _IMAGES) if images.is_dir() else []
    if not files:
        raise InputError(f"--data: there are no images in {images}")
    pairs = [(file, (labels / file.relative_to(images)).with_suffix(".png")) for file in files]
    for image, label in pairs:
        if not label.is_file():
            raise InputError(f"--data: {image} has no label map, want {label}")
    return pairs


def _highest_labels(pairs: list[tuple[Path, Path]]) -> dict[Path, int]:
    """Return the highest class number in each label map."""
    with ThreadPoolExecutor() as threads:
        return dict(zip((label for _, label in pairs), threads.map(_highest_label, pairs), strict=True))


def _highest_label(pair: tuple[Path, Path]) -> int:
    file, map_file = pair
    try:
        with Image.open(file) as image, Image.open(map_file) as labels:
            if labels.mode not in ("L", "P"):
                raise InputError(
                    f"--data: {map_file} is a picture of mode {labels.mode}, want one class number per pixel"
                )
            if labels.size != image.size:
                raise InputError(f"--data: {map_file} has {labels.size} pixels, its image {image.size}")
            counts = labels.histogram()
    except (OSError, SyntaxError) as error:
        raise InputError(f"--data: {file} or its label map cannot be read ({error})") from error
    return max((label for label in range(IGNORED) if counts[label]), default=0)
