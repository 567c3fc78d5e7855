"""COCO folders: found by looking, checked whole, and written into a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sw_det.annotations import Annotations, left_out_sentences, read_annotations, without_masks
from sw_det.folders import Split, find_split, image_folder
from sw_det.formats import prepare
from sw_det.sizes import suited_size
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, ImageFacts, look_at_images, some
from sw_sparse.openmmlab.data_report import DataReport, progress_bar, say, turned, undecodable

if TYPE_CHECKING:
    from mmengine.config import Config

_LOADERS = {"train_dataloader": "train", "val_dataloader": "val", "test_dataloader": "val"}
MASKS_CONFIG, BOXES_CONFIG = "mask_rcnn_nano", "faster_rcnn_nano"  # for data with masks, and without


@dataclass(frozen=True)
class CocoFolder:
    """A COCO folder that was looked at, whole.

    Attributes:
        splits: "train", "val", and "test" if there is one that can be used.
        annotations: of each, without what cannot be used.
        report: what was found; nothing is refused yet.
    """

    splits: dict[str, Split]
    annotations: dict[str, Annotations]
    report: DataReport

    @property
    def lacks_masks(self) -> bool:
        """Whether any object has no mask, so that boxes are all there is to learn."""
        return any(self.annotations[name].objects > self.annotations[name].masks for name in ("train", "val"))


def look_at_folder(data: Path, options: Mapping[str, Any]) -> CocoFolder:
    """Read the annotation files of a COCO folder and decode every image.

    Args:
        data: the folder.
        options: "max_pixels" of an image.

    Raises:
        InputError: there is no such folder, or an annotation file is malformed.
    """
    report = DataReport()
    splits, annotations = {}, {}
    for name in ("train", "val"):
        splits[name], annotations[name] = _read_split(data, name)
    _compare_classes(splits, annotations)
    try:
        splits["test"], annotations["test"] = _read_split(data, "test")
        _compare_classes({"train": splits["train"], "val": splits["test"]}, annotations | {"val": annotations["test"]})
    except InputError as error:  # nothing is trained or chosen by it
        if splits.pop("test", None):
            del annotations["test"]
            report.notes.append(f"test: left out ({str(error).removeprefix('--data: ')})")
    info = annotations["train"].content.get("info")
    if isinstance(info, dict) and "converted_from" in info:
        report.notes += [f"{info['description']}: {note}" for note in info["notes"]]
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


def _read_split(data: Path, name: str) -> tuple[Split, Annotations]:
    split = find_split(data, name)
    found = read_annotations(split.annotations, need_objects=name == "train")
    images = [image["file_name"] for image in found.content["images"]]
    return Split(split.annotations, image_folder(data, split.annotations, name, images)), found


def config_for(data: Path, options: Mapping[str, Any]) -> str:
    """Return the configuration that fits what the annotations of a folder hold; what is chosen without masks is said.

    Args:
        data: the folder, in any form.
        options: as for :func:`sw_det.formats.prepare`, and "masks": "off" where they are not to be learned.

    Raises:
        InputError: see :func:`sw_det.formats.prepare` and :func:`sw_det.annotations.read_annotations`.
    """
    with TemporaryDirectory() as folder:
        found = read_annotations(find_split(prepare(data, Path(folder), options), "train").annotations)
    if options.get("masks") == "off":
        say(f"without masks, as requested: training {BOXES_CONFIG}")
        return BOXES_CONFIG
    if found.objects == found.masks:
        say(f"masks for all objects: training {MASKS_CONFIG}")
        return MASKS_CONFIG
    say(f"{without_masks(found)}: training {BOXES_CONFIG}")
    return BOXES_CONFIG


def adapt_to_data(cfg: Config, data: Path) -> DataReport:
    """Point ``cfg`` at the COCO folder ``data``, and give the model's heads its classes.

    Raises:
        InputError: the folder is no COCO folder, or its annotations or images would not do.
    """
    from sw_sparse.openmmlab.schedule import shorter_side  # MMEngine takes its time; `check` does without

    options = cfg.get("data_options") or {}
    folder = look_at_folder(data, options)
    folder.report.want_good()
    wants_masks = _wants_masks([cfg[loader].dataset for loader in _LOADERS])
    if options.get("masks", "auto") not in ("auto", "off"):
        raise InputError(f"--masks: got {options['masks']}, want auto or off")
    if options.get("masks") == "off" and wants_masks:
        raise InputError(f"--masks: the configuration learns masks; want one without, such as {BOXES_CONFIG}")
    if folder.lacks_masks and wants_masks:
        lacking = next(a for a in folder.annotations.values() if a.objects > a.masks)
        raise InputError(
            f"--data: {data} has {without_masks(lacking)}; want a configuration without masks, such as {BOXES_CONFIG}"
        )
    if "least_object" in cfg and (own := shorter_side(cfg)):
        cfg.suited_size = suited_size(folder.annotations["train"].content, cfg.least_object, own)
        if cfg.suited_size:
            small = f"many objects have less than {cfg.least_object} pixels in images of {own}"
            folder.report.notes.append(f"train: {small}; {cfg.suited_size} suit them")
    classes = folder.annotations["train"].classes
    smallest = min(min(i["width"], i["height"]) for i in folder.annotations["train"].content["images"])
    for loader, name in _LOADERS.items():
        cfg[loader].dataset.update(
            data_root="",
            ann_file=str(folder.splits[name].annotations),
            data_prefix={"img": str(folder.splits[name].images)},
            metainfo={"classes": classes},
        )
        if smallest < cfg[loader].dataset.get("filter_cfg", {}).get("min_size", 0):
            cfg[loader].dataset.filter_cfg.min_size = smallest  # or else they would be passed over without a word
        if options.get("max_pixels", MAX_PIXELS) != MAX_PIXELS:
            cfg[loader].dataset.max_pixels = options["max_pixels"]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(folder.splits["val"].annotations)
    if "test" in folder.splits:
        cfg.splits = {name: _place(split) for name, split in folder.splits.items()}
    _set_classes(cfg.model, len(classes))
    return folder.report


def use_split(cfg: Config, name: str) -> None:
    """Test with another split than that which chose the checkpoint.

    Raises:
        InputError: the data have no such split.
    """
    splits = cfg.get("splits") or {}
    if name not in splits:
        raise InputError(f"--split: got {name}, the data have {', '.join(splits) or 'val alone'}")
    cfg.test_dataloader.dataset.ann_file = cfg.test_evaluator.ann_file = splits[name]["annotations"]
    cfg.test_dataloader.dataset.data_prefix = {"img": splits[name]["images"]}


def _place(split: Split) -> dict[str, str]:
    return {"annotations": str(split.annotations), "images": str(split.images)}


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
    with_objects = {a["image_id"] for a in found.content["annotations"] if not a["iscrowd"]}
    if empty := len(found.content["images"]) - len(with_objects):
        yield f"{empty:,} images without objects, which are measured but not trained on"
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
