"""Data folders in other layouts than this package's: recognized by looking, and linked into one of its own, once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw_models.errors import InputError
from sw_models.files import make_folder, write_atomically
from sw_models.images import MAX_PIXELS, look_at, some
from sw_models.sources import IMAGE_SUFFIXES
from sw_seg.folder import MAPS, SPLITS, find_pairs
from sw_seg.labels import TABLES, LabelFacts, label_facts, read_table
from sw_sparse.openmmlab.splits import SPLIT_NAMES, split_named, stratify

VAL_SHARE = 0.2  # of the images, where nobody says which are for validation
ORIGIN = "origin.txt"  # where a folder's images are from, and how that was recognized
_SPLITS = dict(zip(SPLIT_NAMES, SPLITS, strict=True))  # train: training


@dataclass
class Pair:
    """An image, its label map, and the split that it belongs to, if that is said anywhere."""

    image: Path
    label: Path
    split: str | None = None


def prepare(data: Path, into: Path | None, options: Mapping[str, Any]) -> Path:
    """Return a data folder of this package's layout with the images and label maps of ``data``.

    Args:
        data: the user's folder, which is left alone.
        into: where links are made unless ``data`` has that layout and splits; what was made there before is kept.
            Without it nothing is made, and other layouts are refused.
        options: "max_pixels" of an image, "seed" and "val_share" of splits that are made.

    Raises:
        InputError: the layout is not recognized, or ``into`` is of other data.
    """
    if not data.is_dir():
        raise InputError(f"--data: no folder {data}")
    maps = next((name for name in MAPS if (data / name).is_dir()), None)
    if maps and all(_is_there(data, split) for split in ("training", "validation")):
        return data
    if into is not None and (into / ORIGIN).is_file():
        before = (into / ORIGIN).read_text(encoding="utf-8").splitlines()[0]
        if before != str(data.resolve()):
            raise InputError(f"--out: {into} holds the data of {before}, now --data is {data}; choose another folder")
        return into
    kind, pairs = _recognize(data)
    if not pairs:
        raise InputError(
            f"--data: {data} has no images/ and annotations/ or labels/, no JPEGImages/ and SegmentationClass/, and no"
            " train/ with label maps; see the README for the layouts"
        )
    if into is None:
        raise InputError(f"--data: {data} has no splits, or another layout; convert-data makes a folder of it")
    notes = _make_splits(pairs, options)
    _link(data, pairs, into, "annotations" if maps == "annotations" else "labels")
    text = "\n".join([str(data.resolve()), *(f"{kind}: {note}" for note in notes or ("as it is split there",))]) + "\n"
    write_atomically(into / ORIGIN, lambda file: file.write_text(text, encoding="utf-8"))
    return into


def convert_data(data: Path, out: Path, options: Mapping[str, Any], copy: bool = False) -> dict[str, Any]:
    """Write a data folder of this package's layout, with links or copies, and return what is in it."""
    folder = prepare(data, out, options)
    if folder != out:
        raise InputError(f"IN: {data} has the layout of this package already")
    files = [path for path in out.rglob("*") if path.is_symlink()]
    if copy:
        for path in files:
            target = path.resolve()
            path.unlink()
            shutil.copy2(target, path)
    counts = {
        split: len(list((out / "images" / split).glob("*"))) for split in SPLITS if (out / "images" / split).is_dir()
    }
    return {"folder": str(out), **{f"images/{split}": count for split, count in counts.items()}}


def _is_there(data: Path, split: str) -> bool:
    return any((data / "images" / name).is_dir() for name in SPLITS[split])


def _recognize(data: Path) -> tuple[str, list[Pair]]:
    """Return the layout's name, and all images with label maps."""
    for kind, find in (("Pascal VOC", _voc), ("one folder", _flat), ("a folder for each split", _by_split)):
        if pairs := list(find(data)):
            return kind, pairs
    return "", []


def _voc(data: Path) -> Iterator[Pair]:
    """Yield the pairs of ``JPEGImages`` and ``SegmentationClass``, with the splits that ``ImageSets`` lists."""
    listed = {
        line.strip(): split
        for path in sorted(data.glob("ImageSets/Segmentation/*.txt"))
        if (split := split_named(path.stem))
        for line in path.read_text(encoding="utf-8-sig").splitlines()
    }
    images = {path.stem: path for path in _images(data / "JPEGImages")}
    for label in _images(data / "SegmentationClass"):
        if label.stem not in images:
            raise InputError(f"--data: {label} has no image in {data / 'JPEGImages'}")
        if not listed or label.stem in listed:
            yield Pair(images[label.stem], label, listed.get(label.stem))


def _flat(data: Path) -> Iterator[Pair]:
    """Yield the pairs of ``images`` and a folder of label maps, of which at most training has a folder of its own."""
    maps = next((name for name in MAPS if (data / name).is_dir()), None)
    if maps is None or not (data / "images").is_dir():
        return
    if any(_is_there(data, split) for split in SPLITS):
        for split in SPLITS:
            if _is_there(data, split):
                yield from (Pair(image, label, _short(split)) for image, label in find_pairs(data, maps, split))
        return
    for image in _images(data / "images"):
        label = (data / maps / image.relative_to(data / "images")).with_suffix(".png")
        if not label.is_file():
            raise InputError(f"--data: {image} has no label map, want {label}")
        yield Pair(image, label)


def _by_split(data: Path) -> Iterator[Pair]:
    """Yield the pairs of ``train/images`` and ``train/labels`` (or ``masks``), or ``train`` and ``trainannot``."""
    for split, names in SPLIT_NAMES.items():
        for name in names:
            places = [(data / name / "images", data / name / maps) for maps in MAPS]
            places += [(data / name, data / f"{name}{ending}") for ending in ("annot", "_labels", "_masks")]
            for images, labels in places:
                if not images.is_dir() or not labels.is_dir():
                    continue
                for image in _images(images):
                    label = (labels / image.relative_to(images)).with_suffix(".png")
                    if not label.is_file():
                        raise InputError(f"--data: {image} has no label map, want {label}")
                    yield Pair(image, label, split)


def _make_splits(pairs: list[Pair], options: Mapping[str, Any]) -> list[str]:
    """Give every pair a split, and return what was done, a sentence."""
    there = {pair.split for pair in pairs}
    if {"train", "val"} <= there:
        return []
    seed, share = int(options.get("seed", 0)), float(options.get("val_share", VAL_SHARE))
    if not 0 < share < 1:
        raise InputError(f"data_options.val_share: got {share}, want a share between 0 and 1")
    to_divide = [pair for pair in pairs if pair.split in (None, "train")]
    if len(to_divide) < 2:
        raise InputError(f"--data: {len(to_divide)} images to train on and to validate with, want 2 or more")
    max_pixels = int(options.get("max_pixels", MAX_PIXELS))
    facts = look_at(
        [pair.label for pair in to_divide],
        lambda file: label_facts(file, max_pixels),
        pack=LabelFacts.pack,
        unpack=LabelFacts.unpack,
        kind=f"label maps, max_pixels={max_pixels}",
    )
    if wrong := [found.problem for found in facts.values() if found.problem]:
        raise InputError(f"--data: {len(wrong):,} of {len(facts):,} label maps cannot be used: {some(wrong)}")
    chosen = stratify([set(facts[pair.label].values) for pair in to_divide], {"train": 1 - share, "val": share}, seed)
    for pair, split in zip(to_divide, chosen, strict=True):
        pair.split = split
    count = chosen.count("val")
    return [f"{count:,} of {len(to_divide):,} images are for validation, stratified by class with seed {seed}"]


def _link(data: Path, pairs: list[Pair], into: Path, maps: str) -> None:
    """Make links to the images, the label maps, and what names the classes."""
    taken: set[Path] = set()
    for number, pair in enumerate(pairs):
        folder = _SPLITS[pair.split or "train"]
        stem = pair.image.stem if Path(folder, pair.image.stem) not in taken else f"{pair.image.stem}-{number}"
        taken.add(Path(folder, stem))
        for kind, file in (("images", pair.image), (maps, pair.label)):
            suffix = file.suffix if kind == "images" else ".png"
            make_folder("--out", into / kind / folder)
            with suppress(FileExistsError):  # another process of the same training was first
                (into / kind / folder / f"{stem}{suffix}").symlink_to(file.resolve())
    for name in ("classes.txt", "objectInfo150.txt", *TABLES):
        if (data / name).is_file():
            with suppress(FileExistsError):
                (into / name).symlink_to((data / name).resolve())
    if not (into / "classes.txt").exists() and (table := read_table(data)) and not label_facts(pairs[0].label).colored:
        names = "\n".join(table)  # numbers in palette images are those of the table's lines
        write_atomically(into / "classes.txt", lambda file: file.write_text(names, encoding="utf-8"))


def _images(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    return [
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _short(split: str) -> str:
    return next(name for name, long in _SPLITS.items() if long == split)
