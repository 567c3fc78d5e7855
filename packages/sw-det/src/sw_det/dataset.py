"""COCO folders: found by looking, checked whole, and written into a configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sw_det.annotations import Annotations, left_out_sentences, read_annotations, without_masks
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, ImageFacts, look_at_images, some
from sw_sparse.openmmlab.data_report import DataReport, progress_bar, say, turned, undecodable

if TYPE_CHECKING:
    from mmengine.config import Config

# What splits are called: by COCO, Roboflow, ultralytics, CVAT and others.
_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
_LOADERS = {"train_dataloader": "train", "val_dataloader": "val", "test_dataloader": "val"}
BOXES_CONFIG = "faster_rcnn_nano"  # for data without masks


@dataclass(frozen=True)
class Split:
    """One annotation file of a COCO folder, and its images.

    Attributes:
        annotations: the JSON file.
        images: the folder that its ``file_name`` entries start from.
    """

    annotations: Path
    images: Path


@dataclass(frozen=True)
class CocoFolder:
    """A COCO folder that was looked at, whole.

    Attributes:
        splits: "train" and "val".
        annotations: of both, without what cannot be used.
        report: what was found; nothing is refused yet.
    """

    splits: dict[str, Split]
    annotations: dict[str, Annotations]
    report: DataReport

    @property
    def lacks_masks(self) -> bool:
        """Whether any object has no mask, so that boxes are all there is to learn."""
        return any(split.objects > split.masks for split in self.annotations.values())


def find_split(data: Path, name: str) -> Split:
    """Return the split ``name``, "train" or "val", of the COCO folder ``data``, wherever it usually lies.

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


def look_at_folder(data: Path, options: Mapping[str, Any]) -> CocoFolder:
    """Read both annotation files of a COCO folder and decode every image.

    Args:
        data: the folder.
        options: "max_pixels" of an image.

    Raises:
        InputError: there is no such folder, or an annotation file is malformed.
    """
    report = DataReport()
    splits, annotations = {}, {}
    for name in _NAMES:
        split = find_split(data, name)
        annotations[name] = read_annotations(split.annotations, need_objects=name == "train")
        images = [image["file_name"] for image in annotations[name].content["images"]]
        splits[name] = Split(split.annotations, _image_folder(data, split.annotations, name, images))
    _compare_classes(splits, annotations)
    for name, split in splits.items():
        found = annotations[name]
        paths = {split.images / image["file_name"]: image for image in found.content["images"]}
        with progress_bar(f"looking at images ({name})") as progress:
            facts = look_at_images(list(paths), options.get("max_pixels", MAX_PIXELS), progress)
        report.refused += [f"{split.annotations}: {one}" for one in chain(undecodable(facts), _sizes(paths, facts))]
        where = [f"annotations in {split.annotations.relative_to(data)}, images in {split.images.relative_to(data)}/"]
        report.notes += [
            f"{name}: {one}" for one in chain(where, left_out_sentences(found), turned(facts), _notes(found))
        ]
        report.rows.append(_row(name, found))
    return CocoFolder(splits, annotations, report)


def config_for(data: Path) -> str:
    """Return the configuration that fits what the annotations of a folder hold; what is chosen without masks is said.

    Raises:
        InputError: see :func:`find_split` and :func:`sw_det.annotations.read_annotations`.
    """
    found = read_annotations(find_split(data, "train").annotations)
    if found.objects == found.masks:
        return "mask_rcnn_nano"
    say(f"{without_masks(found)}: training {BOXES_CONFIG}")
    return BOXES_CONFIG


def adapt_to_data(cfg: Config, data: Path) -> DataReport:
    """Point ``cfg`` at the COCO folder ``data``, and give the model's heads its classes.

    Raises:
        InputError: the folder is no COCO folder, or its annotations or images would not do.
    """
    options = cfg.get("data_options") or {}
    folder = look_at_folder(data, options)
    folder.report.want_good()
    if folder.lacks_masks and _wants_masks([cfg[loader].dataset for loader in _LOADERS]):
        lacking = next(a for a in folder.annotations.values() if a.objects > a.masks)
        raise InputError(
            f"--data: {data} has {without_masks(lacking)}; want a configuration without masks, such as {BOXES_CONFIG}"
        )
    classes = folder.annotations["train"].classes
    for loader, name in _LOADERS.items():
        cfg[loader].dataset.update(
            data_root="",
            ann_file=str(folder.splits[name].annotations),
            data_prefix={"img": str(folder.splits[name].images)},
            metainfo={"classes": classes},
        )
        if options.get("max_pixels", MAX_PIXELS) != MAX_PIXELS:
            cfg[loader].dataset.max_pixels = options["max_pixels"]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(folder.splits["val"].annotations)
    _set_classes(cfg.model, len(classes))
    return folder.report


def _annotation_files(data: Path, name: str) -> Iterator[list[Path]]:
    """Yield annotation files for a split, place after place."""
    names = _NAMES[name]
    yield sorted((data / "annotations").glob(f"instances_{name}*.json"))
    for pattern in ("instances_{}*.json", "annotations/{}*.json", "annotations/*_{}.json", "{}*.json"):
        yield sorted({path for one in names for path in data.glob(pattern.format(one)) if path.is_file()})
    for file in ("_annotations.coco.json", "annotations.json", "instances.json", "*.json"):
        for pattern in (f"{{}}/{file}", f"{{}}[0-9]*/{file}", f"images/{{}}*/{file}"):
            yield sorted({path for one in names for path in data.glob(pattern.format(one)) if path.is_file()})


def _image_folder(data: Path, annotations: Path, name: str, files: list[str]) -> Path:
    """Return the folder in which the images lie: the first of the usual ones with all of them."""
    stem = annotations.stem.removeprefix("instances_")
    named = dict.fromkeys((stem, *_NAMES[name], f"{name}2017"))
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


def _compare_classes(splits: Mapping[str, Split], annotations: Mapping[str, Annotations]) -> None:
    """Refuse splits of different classes; their order and their numbers may differ, and so may all else of them."""
    train, val = (set(annotations[name].classes) for name in ("train", "val"))
    if train != val:
        only = some(sorted(train ^ val))
        raise InputError(
            f"--data: {splits['train'].annotations} and {splits['val'].annotations} list different categories: {only}"
        )


def _sizes(paths: Mapping[Path, Mapping[str, Any]], facts: Mapping[Path, ImageFacts]) -> Iterator[str]:
    """Yield a sentence on images that are not as wide and high as annotated, if there are any."""
    wrong = []
    for path, image in paths.items():
        its = facts[path]
        stated = (image["width"], image["height"])
        if its.problem or stated == (its.width, its.height):
            continue
        why = " after turning it as its EXIF orientation says" if its.orientation > 1 else ""
        wrong.append(f"{image['file_name']} is {its.size}{why}, annotated as {stated[0]}x{stated[1]}")
    if wrong:
        yield f"{len(wrong):,} of {len(facts):,} images are not of the width and height annotated: {some(wrong)}"


def _notes(found: Annotations) -> Iterator[str]:
    if found.objects > found.masks:
        yield without_masks(found)
    if not found.objects:
        yield "no objects: average precision is not defined"
    elif absent := [name for name, count in found.objects_of.items() if not count]:
        yield f"no objects of {some(absent)}"
    if found.mended:
        yield f"{found.mended:,} annotations had no area, which was computed"


def _row(name: str, found: Annotations) -> dict[str, Any]:
    used = len(found.content["annotations"])
    return {
        "split": name,
        "images": len(found.content["images"]),
        "classes": len(found.classes),
        "objects": found.objects,
        "with masks": found.masks,
        "crowds": used - found.objects,
        "left out": sum(map(len, found.left_out.values())),
    }


def _wants_masks(part: Any) -> bool:
    """Whether any part of a configuration reads masks."""
    if isinstance(part, dict):
        return bool(part.get("with_mask")) or any(_wants_masks(value) for value in part.values())
    return isinstance(part, list | tuple) and any(_wants_masks(item) for item in part)


def _set_classes(part: Any, count: int) -> None:
    """Set ``num_classes`` wherever a part of the model has it; a cascade's heads are a list."""
    if isinstance(part, dict):
        if "num_classes" in part:
            part["num_classes"] = count
        part = list(part.values())
    if isinstance(part, list | tuple):
        for item in part:
            _set_classes(item, count)
