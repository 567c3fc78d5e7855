"""COCO annotation files: read, checked entry by entry, and mended where the right value is known.

What is malformed is refused with its id. What is well formed but cannot be trained on is left out, and said. Areas are
computed again where they are absent or nothing; ``iscrowd`` is 0 where it is absent.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sw_det.masks import mask_area, mask_problem
from sw_models.errors import InputError
from sw_models.images import some

_LISTS = ("images", "annotations", "categories")
_LARGEST_FILE = 2_000_000_000  # bytes; COCO's own largest has 470 million


@dataclass(frozen=True)
class Annotations:
    """A COCO file of which everything can be used.

    Attributes:
        content: the file's lists, without what cannot be used, with areas, ``iscrowd`` and empty segmentations added.
        left_out: the ids of annotations that cannot be used, by the reason.
        mended: how many annotations got an area.
        objects: how many annotations there are to learn from, without crowds.
        masks: how many of them have a mask.
        objects_of: how many there are of each class, by its name, in the order of the classes.
    """

    content: dict[str, Any]
    left_out: dict[str, list[int]]
    mended: int
    objects: int
    masks: int
    objects_of: dict[str, int]

    @property
    def has_masks(self) -> bool:
        """Whether every object has a mask."""
        return 0 < self.objects == self.masks

    @property
    def classes(self) -> list[str]:
        """The categories' names, in the order in which a model numbers them."""
        return [category["name"] for category in self.content["categories"]]


def read_annotations(path: Path, need_objects: bool = True) -> Annotations:
    """Read a COCO annotation file.

    Args:
        path: the file.
        need_objects: whether it is refused without objects, or when all of a class cannot be used.

    Raises:
        InputError: the file is no COCO annotation file, or entries are malformed; the message names them.
    """
    content = _load(path)
    _check_entries(content["categories"], path, "categories", _category_problem)
    _check_entries(content["images"], path, "images", _image_problem)
    names = Counter(category["name"] for category in content["categories"])
    if twice := [name for name, times in names.items() if times > 1]:
        raise InputError(f"--data: {path} has two categories named {twice[0]}")
    files = Counter(image["file_name"] for image in content["images"])
    if twice := [name for name, times in files.items() if times > 1]:
        raise InputError(f"--data: {path} has two images with the file {twice[0]}")
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"]: category["name"] for category in content["categories"]}
    _check_entries(
        content["annotations"], path, "annotations", lambda entry: _annotation_problem(entry, images, categories)
    )
    return _usable(content, path, images, categories, need_objects)


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"--data: {path} has {path.stat().st_size:,} bytes, want at most {_LARGEST_FILE:,}")
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"--data: {path} is no JSON ({error})") from None
    except OSError as error:
        raise InputError(f"--data: {path} cannot be read ({error.strerror})") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _LISTS):
        raise InputError(f"--data: {path} is no COCO annotation file; want the lists {', '.join(_LISTS)}")
    for key in ("images", "categories"):
        if not content[key]:
            raise InputError(f"--data: {path} holds no {key}")
    return content


def _check_entries(entries: list[Any], path: Path, kind: str, problem: Callable[[dict[str, Any]], str]) -> None:
    """Raise one ``InputError`` that names the entries with a problem."""
    one = {"images": "image", "annotations": "annotation", "categories": "category"}[kind]
    seen: set[int] = set()
    wrong: list[str] = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"--data: one of the {kind} of {path} has no names: got {_short(entry)}")
        if "id" not in entry:
            raise InputError(f"--data: one of the {kind} of {path} has no id: number {place + 1}")
        number = entry["id"]
        if not _is_whole(number):
            wrong.append(f"{one} {_short(number)} of {path} has an id that is no whole number")
        elif number in seen:
            raise InputError(f"--data: {path} has two {kind} with id {number}")
        elif found := problem(entry):
            wrong.append(f"{one} {number} of {path} {found}")
        if _is_whole(number):
            seen.add(number)
    if wrong:
        raise InputError(f"--data: {some(wrong)}")


def _category_problem(category: Mapping[str, Any]) -> str:
    name = category.get("name")
    if not isinstance(name, str) or not name.strip():
        return "has no name" if name is None else f"has the name {_short(name)}, want text"
    return ""


def _image_problem(image: Mapping[str, Any]) -> str:
    for key in ("file_name", "height", "width"):
        if key not in image:
            return f"has no {key}"
    name = image["file_name"]
    if not isinstance(name, str) or not name or "\0" in name:
        return f"has the file_name {_short(name)}, want text"
    paths = (PurePosixPath(name), PureWindowsPath(name))
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in paths):
        return f"has the file_name {_short(name)}, which leaves the folder of images"
    for key in ("height", "width"):
        if not _is_whole(image[key]) or not 0 < image[key] <= 1_000_000:
            return f"has the {key} {_short(image[key])}, want a number of pixels"
    return ""


def _annotation_problem(
    annotation: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]], categories: Mapping[int, str]
) -> str:
    for key in ("image_id", "category_id", "bbox"):
        if key not in annotation:
            return f"has no {key}"
    category, image = annotation["category_id"], annotation["image_id"]
    if not _is_whole(category) or category not in categories:
        return f"has category {_short(category)}, want one of its categories"
    if not _is_whole(image) or image not in images:
        return f"has image {_short(image)}, which is not in the file"
    box = annotation["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"has bbox {_short(box)}, want x, y, w, h"
    if box[2] < 0 or box[3] < 0:
        return f"has bbox {_short(box)}, want a width and a height that are not negative"
    if annotation.get("iscrowd", 0) not in (0, 1, None):
        return f"has iscrowd {_short(annotation['iscrowd'])}, want 0 or 1"
    if found := mask_problem(annotation.get("segmentation"), images[image]["height"], images[image]["width"]):
        return f"has {found}"
    return ""


def _usable(
    content: dict[str, Any],
    path: Path,
    images: Mapping[int, Mapping[str, Any]],
    categories: Mapping[int, str],
    need_objects: bool,
) -> Annotations:
    """Leave out what cannot be used, and compute what is absent."""
    left_out: dict[str, list[int]] = defaultdict(list)
    listed: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    reasons_of: dict[str, Counter[str]] = defaultdict(Counter)
    usable: list[dict[str, Any]] = []
    mended = masks = 0
    for entry in content["annotations"]:
        name = categories[entry["category_id"]]
        listed[name] += 1
        image = images[entry["image_id"]]
        if reason := _useless(entry["bbox"], image):
            left_out[reason].append(entry["id"])
            reasons_of[name][reason] += 1
            continue
        polygons = _without_empty(entry.get("segmentation"))
        crowd = int(bool(entry.get("iscrowd")))
        if crowd and not polygons:
            x, y, w, h = entry["bbox"]
            polygons = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        area = entry.get("area")
        if not (_is_number(area) and area > 0):
            area = mask_area(polygons, image["height"], image["width"]) if polygons else 0
            area = area or entry["bbox"][2] * entry["bbox"][3]
            mended += 1
        usable.append({**entry, "segmentation": polygons, "area": area, "iscrowd": crowd})
        if crowd:
            reasons_of[name]["it is a crowd"] += 1
        else:
            kept[name] += 1
            masks += bool(polygons)
    objects_of = {name: kept[name] for name in categories.values()}
    if need_objects:
        _want_objects(path, len(content["annotations"]), listed, kept, reasons_of)
    return Annotations(
        {**content, "annotations": usable}, dict(left_out), mended, sum(kept.values()), masks, objects_of
    )


def _want_objects(
    path: Path, count: int, listed: Counter[str], kept: Counter[str], reasons_of: Mapping[str, Counter[str]]
) -> None:
    if not count:
        raise InputError(f"--data: {path} holds no annotations")
    for name, number in listed.items():
        if not kept[name]:
            reasons = ", ".join(f"{times} because {reason}" for reason, times in reasons_of[name].items())
            raise InputError(f"--data: {path} has no object of {name} to learn from: {number} annotations, {reasons}")


def _useless(box: list[float], image: Mapping[str, Any]) -> str:
    """Return why MMDetection would not learn from a box, if so."""
    x, y, width, height = box
    if width < 1 or height < 1:
        return "the box is smaller than a pixel"
    if min(x + width, image["width"]) <= max(x, 0) or min(y + height, image["height"]) <= max(y, 0):
        return "the box is outside the image"
    return ""


def _without_empty(segmentation: Any) -> Any:
    """Return a segmentation without polygons of no points; ``[]`` where it is absent or null."""
    if isinstance(segmentation, list):
        return [polygon for polygon in segmentation if polygon]
    return segmentation or []


def without_masks(annotations: Annotations) -> str:
    """Return what the objects have, in a sentence: boxes only, or masks for some."""
    return (
        "boxes only"
        if not annotations.masks
        else f"masks for {annotations.masks:,} of {annotations.objects:,} objects, so boxes only"
    )


def left_out_sentences(annotations: Annotations) -> Iterator[str]:
    """Yield "N of M annotations cannot be used, because ...: ids"."""
    total = len(annotations.content["annotations"]) + sum(map(len, annotations.left_out.values()))
    for reason, ids in annotations.left_out.items():
        yield f"{len(ids):,} of {total:,} annotations cannot be used, because {reason}: {some(ids)}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e9


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
