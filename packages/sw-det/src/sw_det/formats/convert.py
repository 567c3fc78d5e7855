"""From any format to COCO files in a folder of ours, once."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sw_det.annotations import left_out_sentences, read_annotations
from sw_det.folders import find_split, has_splits, image_folder
from sw_det.formats.columns import read_columns
from sw_det.formats.labelme import read_cvat, read_labelme
from sw_det.formats.pictures import Picture, Pictures, Thing
from sw_det.formats.voc import read_voc
from sw_det.formats.yolo import read_yolo
from sw_models.errors import InputError
from sw_models.files import make_folder, write_atomically
from sw_models.images import MAX_PIXELS, look_at_images, some
from sw_sparse.openmmlab.splits import stratify

VAL_SHARE = 0.2  # of the images, where nobody says which are for validation


def prepare(data: Path, into: Path | None, options: Mapping[str, Any]) -> Path:
    """Return a COCO folder with the images and annotations of ``data``, in whatever usual form they are.

    Args:
        data: the user's folder, which is left alone.
        into: where a COCO folder is written unless ``data`` is one with splits; what was written there before is kept.
            Without it nothing is written, and other data are refused.
        options: "max_pixels" of an image, "seed" and "val_share" of splits that are made, "columns" and "image" of
            text files.

    Raises:
        InputError: the form is not recognized, or a file is malformed; or ``into`` is of other data.
    """
    if not data.is_dir():
        raise InputError(f"--data: no folder {data}")
    if "columns" not in options and has_splits(data):
        return data
    if into is not None and (written := into / "annotations/instances_train.json").is_file():
        before = json.loads(written.read_bytes())["info"]["converted_from"]
        if before != str(data.resolve()):
            raise InputError(f"--out: {into} holds the data of {before}, now --data is {data}; choose another folder")
        return into
    found = _read(data, options)
    contents = to_coco(found, options) if found else _divide(data, options)
    if contents is None:
        find_split(data, "train")  # says what is wanted
        raise InputError(f"--data: {data} is in no form that is known")
    if into is None:
        raise InputError(f"--data: {data} is no COCO folder with splits; convert-data makes one of it")
    make_folder("--out", into / "annotations")
    with suppress(FileExistsError):  # another process of the same training was first
        (into / "images").symlink_to(data.resolve(), target_is_directory=True)
    for split, content in reversed(contents.items()):  # that of training last: it says that all are there
        _write(into / f"annotations/instances_{split}.json", content)
    return into


def convert_data(data: Path, out: Path, options: Mapping[str, Any], copy: bool = False) -> dict[str, Any]:
    """Write a COCO folder, with a link to the images or copies of them, and return what is in it."""
    folder = prepare(data, out, options)
    if folder != out:
        raise InputError(f"IN: {data} is a COCO folder already")
    if copy:
        names = [image["file_name"] for image in _images(out)]
        (out / "images").unlink()
        for name in names:
            (out / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(data / name, out / "images" / name)
    found: dict[str, Any] = {"folder": str(out)}
    for file in sorted((out / "annotations").glob("*.json")):
        content = json.loads(file.read_bytes())
        split = file.stem.removeprefix("instances_")
        found |= {"from": content["info"]["description"], "classes": len(content["categories"])}
        found |= {f"images/{split}": len(content["images"]), f"objects/{split}": len(content["annotations"])}
    return found


def to_coco(found: Pictures, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the content of a COCO annotation file for each split, "train" and "val" first."""
    notes = [*found.notes, *_make_splits(found.pictures, options)]
    occurring = {thing.name for picture in found.pictures for thing in picture.things}
    classes = found.classes or sorted(occurring)
    numbers = {name: place for place, name in enumerate(classes, start=1)}
    if len(numbers) != len(classes):
        twice = [name for name, times in Counter(classes).items() if times > 1]
        raise InputError(f"--data: {found.root} names the class {twice[0]} twice")
    facts = look_at_images([picture.path for picture in found.pictures], int(options.get("max_pixels", MAX_PIXELS)))
    wrong = [f"{path} ({its.problem})" for path, its in facts.items() if its.problem]
    if wrong:
        raise InputError(f"--data: {len(wrong):,} of {len(facts):,} files cannot be read: {some(wrong)}")
    info = {"description": found.kind, "converted_from": str(found.root.resolve()), "notes": notes}
    contents = {}
    for split in ("train", "val", "test"):
        members = [picture for picture in found.pictures if picture.split == split]
        if not members and split == "test":
            continue
        images = [
            {
                "id": number,
                "file_name": picture.path.relative_to(found.root).as_posix(),
                "width": facts[picture.path].width,
                "height": facts[picture.path].height,
            }
            for number, picture in enumerate(members, start=1)
        ]
        things = [(number, thing) for number, picture in enumerate(members, start=1) for thing in picture.things]
        annotations = [
            {
                "id": place,
                "image_id": number,
                "category_id": numbers[thing.name],
                "bbox": [round(value, 3) for value in thing.box],
                "segmentation": [[round(value, 3) for value in polygon] for polygon in thing.polygons],
                "iscrowd": int(thing.crowd),
            }
            for place, (number, thing) in enumerate(things, start=1)
        ]
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        contents[split] = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    return contents


def _read(data: Path, options: Mapping[str, Any]) -> Pictures | None:
    """Return what a folder holds, in the first form that it has."""
    max_pixels = int(options.get("max_pixels", MAX_PIXELS))
    if options.get("columns"):
        columns = options["columns"]
        words = " ".join(columns) if isinstance(columns, list | tuple) else str(columns)
        return read_columns(data, words, str(options.get("image", "{}.*")))
    return read_yolo(data, max_pixels) or read_voc(data) or read_cvat(data) or read_labelme(data)


def _divide(data: Path, options: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """Return the splits of a folder's only COCO file, if there is one; its entries stay as they are."""
    files = [path for path in sorted((*data.glob("*.json"), *data.glob("annotations/*.json"))) if _is_coco(path)]
    if len(files) != 1:
        return None
    found = read_annotations(files[0])
    content = found.content
    root = image_folder(data, files[0], "train", [image["file_name"] for image in content["images"]])
    names = {category["id"]: category["name"] for category in content["categories"]}
    things: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        things[annotation["image_id"]].append(annotation)
    pictures = []
    for image in content["images"]:
        occurring = {names[annotation["category_id"]] for annotation in things[image["id"]]}
        pictures.append(Picture(root / image["file_name"], [Thing(name, (0, 0, 0, 0)) for name in occurring]))
    notes = [f"annotations in {files[0].relative_to(data)}", *_make_splits(pictures, options)]
    notes += left_out_sentences(found)
    contents = {}
    for split in ("train", "val"):
        images = [
            {**image, "file_name": picture.path.relative_to(data).as_posix()}
            for image, picture in zip(content["images"], pictures, strict=True)
            if picture.split == split
        ]
        contents[split] = {
            "info": {"description": "COCO", "converted_from": str(data.resolve()), "notes": notes},
            "images": images,
            "annotations": [annotation for image in images for annotation in things[image["id"]]],
            "categories": content["categories"],
        }
    return contents


def _is_coco(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):
        return False
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _make_splits(pictures: list[Picture], options: Mapping[str, Any]) -> list[str]:
    """Give every picture a split, and return what was done, a sentence."""
    seed, share = int(options.get("seed", 0)), float(options.get("val_share", VAL_SHARE))
    if not 0 < share < 1:
        raise InputError(f"data_options.val_share: got {share}, want a share between 0 and 1")
    there = {picture.split for picture in pictures}
    open_ones = [p for p in pictures if p.split in (None, "trainval")]
    notes = []
    if {"train", "val"} <= there:
        if open_ones:
            notes.append(f"{len(open_ones):,} images are in no split and left out")
        return notes
    if "train" in there and "val" not in there:
        open_ones = [p for p in pictures if p.split in ("train", "trainval")]
    if len(open_ones) < 2:
        raise InputError(f"--data: {len(open_ones)} images to train on and to validate with, want 2 or more")
    chosen = stratify([{t.name for t in p.things} for p in open_ones], {"train": 1 - share, "val": share}, seed)
    for picture, split in zip(open_ones, chosen, strict=True):
        picture.split = split
    count = chosen.count("val")
    return [*notes, f"{count:,} of {len(open_ones):,} images are for validation, stratified by class with seed {seed}"]


def _images(folder: Path) -> list[dict[str, Any]]:
    return [i for file in (folder / "annotations").glob("*.json") for i in json.loads(file.read_bytes())["images"]]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, allow_nan=False)
    write_atomically(path, lambda file: file.write_text(text))
