"""Data folders: images, and maps of the class of every pixel, looked at whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, ImageFacts, look_at, look_at_images, some
from sw_models.sources import IMAGE_SUFFIXES
from sw_seg.labels import TABLES, LabelFacts, label_facts, read_table
from sw_seg.numbering import Numbering, number_classes
from sw_sparse.openmmlab.data_report import DataReport, progress_bar, turned, undecodable
from sw_sparse.openmmlab.palette import class_colours

SPLITS = {
    "training": ("training", "train"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),  # may be absent
}
MAPS = ("annotations", "labels", "masks")


@dataclass(frozen=True)
class SegFolder:
    """A data folder that was looked at.

    Attributes:
        path: the folder.
        maps: its subfolder with the label maps, such as "annotations".
        classes: the classes' names, in order.
        values: of each class's pixels in the label maps; all others are no class.
        colored: whether these values are colors.
        report: what was found.
    """

    path: Path
    maps: str
    classes: tuple[str, ...]
    values: tuple[int, ...]
    colored: bool = False
    report: DataReport = field(default_factory=DataReport, compare=False)

    @property
    def zero_is_ignored(self) -> bool:
        """Whether the label maps count classes from 1, and 0 stands for no class."""
        return not self.colored and self.values == tuple(range(1, len(self.classes) + 1))

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """A color for each class: the map's own, or others, of which that of a background is black."""
        if self.colored:
            return [(value >> 16, value >> 8 & 255, value & 255) for value in self.values]
        found = class_colours(len(self.classes))
        return [(0, 0, 0) if name == "background" else color for name, color in zip(self.classes, found, strict=True)]

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """Return the images of a split with their label maps, in the order of their names."""
        return find_pairs(self.path, self.maps, split)

    @property
    def splits(self) -> list[str]:
        """The splits that are there."""
        return _splits(self.path, self.maps)


def read_folder(path: Path, options: Mapping[str, Any] | None = None) -> SegFolder:
    """Look at a data folder, including every image and label map in it.

    Args:
        path: the folder.
        options: "max_pixels" of an image; what "zero" and "white" (255) are in label maps: "class" or "ignore", "auto"
            finds out; and "ignore", values that are no class.

    Raises:
        InputError: the layout, an image or a label map is not as wanted; the message names it.
    """
    folder = look_at_folder(path, options or {})
    folder.report.want_good()
    return folder


def look_at_folder(path: Path, options: Mapping[str, Any]) -> SegFolder:
    """Look at a data folder as :func:`read_folder` does, and keep what has to be mended in the report.

    Raises:
        InputError: the layout is not as wanted, or the classes are not clear.
    """
    maps = next((name for name in MAPS if (path / name).is_dir()), None)
    if maps is None or not (path / "images").is_dir():
        raise InputError(f"--data: {path} has no images/ and annotations/ or labels/, see the README for the layout")
    report = DataReport(notes=_origin(path))
    labels: dict[str, dict[Path, LabelFacts]] = {}
    for split in _splits(path, maps):
        pairs = find_pairs(path, maps, split)
        images, labels[split] = _look(pairs, split, options.get("max_pixels", MAX_PIXELS))
        report.refused += [*undecodable(images), *_unusable(pairs, images, labels[split])]
        report.notes += [f"{split}: {note}" for note in turned(images)]
    if report.refused:
        return SegFolder(path, maps, (), (), report=report)
    every = {file: facts for found in labels.values() for file, facts in found.items()}
    numbering = _numbering(path, maps, every, labels["training"], options)
    report.notes += numbering.notes
    folder = SegFolder(path, maps, numbering.classes, numbering.values, numbering.colored, report)
    for split, found in labels.items():
        report.rows += _rows(folder, split, found)
    report.refused += _unknown(folder, numbering, every)
    return folder


def _origin(path: Path) -> list[str]:
    """Return how a folder that was made from the user's was recognized."""
    file = path / "origin.txt"
    return file.read_text(encoding="utf-8").splitlines()[1:] if file.is_file() else []


def _look(
    pairs: list[tuple[Path, Path]], split: str, max_pixels: int
) -> tuple[dict[Path, ImageFacts], dict[Path, LabelFacts]]:
    with progress_bar(f"looking at images ({split})") as progress:
        images = look_at_images([image for image, _ in pairs], max_pixels, progress)
    with progress_bar(f"looking at label maps ({split})") as progress:
        labels = look_at(
            [label for _, label in pairs],
            lambda file: label_facts(file, max_pixels),
            pack=LabelFacts.pack,
            unpack=LabelFacts.unpack,
            kind=f"label maps, max_pixels={max_pixels}",
            progress=progress,
        )
    return images, labels


def _unusable(
    pairs: list[tuple[Path, Path]], images: Mapping[Path, ImageFacts], labels: Mapping[Path, LabelFacts]
) -> Iterator[str]:
    """Yield sentences on label maps that cannot be read, or are not of their image's size."""
    if wrong := [facts.problem for facts in labels.values() if facts.problem]:
        yield f"{len(wrong):,} of {len(labels):,} label maps cannot be used: {some(wrong)}"
    sizes = []
    for image, label in pairs:
        its, maps = images[image], labels[label]
        if its.problem or maps.problem or (its.width, its.height) == (maps.width, maps.height):
            continue
        why = f" after turning it as its EXIF orientation {its.orientation} says" if its.orientation > 1 else ""
        sizes.append(f"{label} has {maps.width}x{maps.height} pixels, its image {its.size}{why}")
    if sizes:
        yield f"{len(sizes):,} of {len(pairs):,} label maps are not of the size of the image: {some(sizes)}"


def _numbering(
    path: Path,
    maps: str,
    every: Mapping[Path, LabelFacts],
    training: Mapping[Path, LabelFacts],
    options: Mapping[str, Any],
) -> Numbering:
    kinds = {facts.colored for facts in every.values()}
    table = read_table(path)
    if len(kinds) > 1:
        one = next(file for file, facts in every.items() if facts.colored)
        raise InputError(f"--data: {one} has colors, other label maps of {path} class numbers; want one kind")
    if kinds == {True}:
        if not table:
            one = next(iter(every))
            raise InputError(f"--data: {one} is colored; want a table of the classes' colors, {' or '.join(TABLES)}")
        return Numbering(tuple(table), tuple(table.values()), True, (f"colors of {len(table)} classes, from a table",))
    values = {value for facts in every.values() for value in facts.values}
    trained = {value for facts in training.values() for value in facts.values}
    names = _class_names(path)
    return number_classes(path, maps, values, trained, names, options, is_ade=(path / "objectInfo150.txt").is_file())


def _class_names(path: Path) -> tuple[str, ...]:
    file = path / "classes.txt"
    if file.is_file():
        try:
            text = file.read_text(encoding="utf-8-sig")
        except ValueError as error:
            raise InputError(f"--data: {file} is no text in UTF-8 ({error})") from error
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        if len(set(names)) != len(names) or not names:
            raise InputError(f"--data: {file} has no line, or one twice; want a different name for each class")
        if len(names) > 254:
            raise InputError(f"--data: {file} has {len(names)} lines, want at most 254 classes")
        return names
    if (path / "objectInfo150.txt").is_file():
        from mmseg.datasets import ADE20KDataset

        return tuple(ADE20KDataset.METAINFO["classes"])
    return ()


def _unknown(folder: SegFolder, numbering: Numbering, every: Mapping[Path, LabelFacts]) -> Iterator[str]:
    """Yield a sentence on label maps with values that are no class and were not said to be none."""
    known = {*folder.values, *numbering.ignored}
    wrong = []
    for file, facts in every.items():
        if unknown := sorted(set(facts.values) - known):
            if folder.colored:
                value = unknown[0]
                wrong.append(f"{file} has the color {value >> 16} {value >> 8 & 255} {value & 255}")
            else:
                wrong.append(f"{file} has the class {some(unknown)}")
    if wrong:
        count, first, last = len(folder.classes), min(folder.values), max(folder.values)
        wanted = "colors in the table" if folder.colored else f"{count} classes, {first} to {last}"
        yield f"{some(wrong)}, but there are {wanted}"


def _rows(folder: SegFolder, split: str, labels: Mapping[Path, LabelFacts]) -> Iterator[dict[str, Any]]:
    for name, value in zip(folder.classes, folder.values, strict=True):
        count = sum(value in facts.values for facts in labels.values())
        if count or len(folder.classes) <= 30:
            yield {
                "split": split,
                "class": name,
                "in maps": f"#{value:06x}" if folder.colored else str(value),
                "images": count,
                "of": len(labels),
            }


def _splits(path: Path, maps: str) -> list[str]:
    """Return the splits of a folder; tests without label maps are none."""
    tests = any((path / "images" / name).is_dir() and (path / maps / name).is_dir() for name in SPLITS["test"])
    return [split for split in SPLITS if split != "test" or tests]


def find_pairs(path: Path, maps: str, split: str) -> list[tuple[Path, Path]]:
    """Return the images of a split with their label maps, in the order of their names.

    Raises:
        InputError: there are no images, or an image has no label map of its own.
    """
    folders = [(path / "images" / name, path / maps / name) for name in SPLITS[split]]
    images, labels = next(((i, m) for i, m in folders if i.is_dir()), folders[0])
    files = [f for f in sorted(images.rglob("*")) if _is_image(f, images)] if images.is_dir() else []
    if not files:
        raise InputError(f"--data: there are no images in {images}")
    pairs = [(file, (labels / file.relative_to(images)).with_suffix(".png")) for file in files]
    if absent := [f"{image} has no label map, want {label}" for image, label in pairs if not label.is_file()]:
        raise InputError(f"--data: {some(absent)}")
    if len({label for _, label in pairs}) < len(pairs):
        one = next(image for i, (image, label) in enumerate(pairs) if label in [m for _, m in pairs[:i]])
        raise InputError(f"--data: {one} shares its label map with an image of another suffix")
    return pairs


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
