"""COCO folders: found, checked, and written into a configuration.

A COCO folder holds ``annotations/instances_train*.json`` and ``annotations/instances_val*.json``, each with its images
in the folder of the same name: ``train2017`` for ``instances_train2017.json``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sw_models.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config

# What each entry of the annotation file's lists must have for MMDetection and pycocotools.
_WANTED = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"},
    "categories": {"id", "name"},
}


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
    """Return the split ``name``, "train" or "val", of the COCO folder ``data``.

    Raises:
        InputError: there is no such folder or file, or there are several that fit.
    """
    if not data.is_dir():
        raise InputError(f"--data: no folder {data}")
    found = sorted((data / "annotations").glob(f"instances_{name}*.json"))
    if len(found) != 1:
        among = ", ".join(path.name for path in found) or "none"
        raise InputError(f"--data: want one file annotations/instances_{name}*.json in {data}, found {among}")
    return Split(found[0], data / found[0].stem.removeprefix("instances_"))


def read_annotations(split: Split) -> dict[str, Any]:
    """Return the annotation file's content, after checking what a training would otherwise stumble over.

    Raises:
        InputError: the file is no COCO annotation file, holds nothing, names a category, an image or a file that does
            not exist, or a box that is none.
    """
    where = split.annotations
    try:
        content = json.loads(where.read_bytes())
    except ValueError as error:
        raise InputError(f"--data: {where} is no JSON ({error})") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _WANTED):
        raise InputError(f"--data: {where} is no COCO annotation file; want the lists {', '.join(_WANTED)}")
    for key, wanted in _WANTED.items():
        if not content[key]:
            raise InputError(f"--data: {where} holds no {key}")
        for entry in content[key]:
            if not isinstance(entry, dict) or not wanted <= entry.keys():
                absent = min(wanted - entry.keys()) if isinstance(entry, dict) else "names"
                raise InputError(f"--data: one of the {key} of {where} has no {absent}")
        numbers = Counter(entry["id"] for entry in content[key])
        if twice := [number for number, times in numbers.items() if times > 1]:
            raise InputError(f"--data: {where} has two {key} with id {twice[0]}")
    _check_references(content, split)
    return content


def class_names(content: dict[str, Any]) -> list[str]:
    """Return the categories' names, in the order in which a model numbers them."""
    return [category["name"] for category in content["categories"]]


def adapt_to_data(cfg: Config, data: Path) -> None:
    """Point ``cfg`` at the COCO folder ``data``, and give the model's heads its classes.

    Raises:
        InputError: the folder is no COCO folder, or its annotations would not do; see :func:`read_annotations`.
    """
    train, val = find_split(data, "train"), find_split(data, "val")
    content, found = read_annotations(train), read_annotations(val)
    if content["categories"] != found["categories"]:
        raise InputError(f"--data: {train.annotations} and {val.annotations} list different categories")
    classes = class_names(content)
    for split, loaders in ((train, ["train_dataloader"]), (val, ["val_dataloader", "test_dataloader"])):
        for loader in loaders:
            cfg[loader].dataset.update(
                data_root="",
                ann_file=str(split.annotations),
                data_prefix={"img": str(split.images)},
                metainfo={"classes": classes},
            )
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(val.annotations)
    _set_classes(cfg.model, len(classes))


def _set_classes(part: Any, count: int) -> None:
    """Set ``num_classes`` wherever a part of the model has it; a cascade's heads are a list."""
    if isinstance(part, dict):
        if "num_classes" in part:
            part["num_classes"] = count
        part = list(part.values())
    if isinstance(part, list | tuple):
        for item in part:
            _set_classes(item, count)


def _check_references(content: dict[str, Any], split: Split) -> None:
    where, names = split.annotations, class_names(content)
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise InputError(f"--data: {where} has two categories named {name}")
    if not split.images.is_dir():
        raise InputError(f"--data: no folder {split.images} for the images of {where}")
    present = _files(split.images)
    for image in content["images"]:
        if image["file_name"] not in present and not (split.images / image["file_name"]).is_file():
            raise InputError(f"--data: {where} names {image['file_name']}, which is not in {split.images}")
    categories = {category["id"] for category in content["categories"]}
    images = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        number = annotation["id"]
        if annotation["category_id"] not in categories:
            got = annotation["category_id"]
            raise InputError(f"--data: annotation {number} of {where} has category {got}, want one of its categories")
        if annotation["image_id"] not in images:
            got = annotation["image_id"]
            raise InputError(f"--data: annotation {number} of {where} has image {got}, which is not in the file")
        if len(annotation["bbox"]) != 4:
            raise InputError(f"--data: annotation {number} of {where} has bbox {annotation['bbox']}, want x, y, w, h")


def _files(folder: Path) -> set[str]:
    """Return the names of the folder's own files: one listing instead of one look-up per image."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}
